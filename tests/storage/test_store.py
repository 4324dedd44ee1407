"""Addresses and names: nothing leads out of its directory or prefix; what is wrong with an address is named."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unsee.errors import UserError
from unsee.storage.artifact import is_inside
from unsee.storage.store import Failed, FileStore, Missing, open_store
from unsee.storage.transfer import preflight

NAMES = st.text(st.sampled_from("ab./\\~ %?#\0\nü"), max_size=12)


@given(NAMES)
@example("..")
@example("a/../../b")
@example("/etc/passwd")
@example("a//b")
@example("./a")
@example("")
def test_a_name_is_refused_or_stays_below_its_directory_in_one_spelling(name):
    if is_inside(name):
        resolved = Path(os.path.normpath(f"/srv/store/{name}"))
        assert resolved.is_relative_to("/srv/store")
        assert resolved != Path("/srv/store")
        assert resolved.relative_to("/srv/store").as_posix() == name
    else:
        plain = PurePosixPath("/srv/store") / name
        assert ".." in plain.parts or str(plain) != f"/srv/store/{name}" or "\0" in name or name.startswith("/")


@given(NAMES)
def test_a_store_reads_and_writes_no_name_that_leads_out_of_it(tmp_path_factory, name):
    if is_inside(name):
        return
    store = FileStore(tmp_path_factory.getbasetemp() / "store")
    for act in (store.read, store.delete, lambda n: store.write(n, b""), lambda n: store.create(n, b"")):
        with pytest.raises(UserError, match="is no name of an object"):
            act(name)


@given(st.lists(st.text(st.sampled_from("ab.-_ %ü"), min_size=1, max_size=6), min_size=1, max_size=4))
def test_the_address_of_a_directory_leads_back_to_it(parts):
    path = Path("/", *(part for part in parts if part not in (".", "..")))
    assert open_store(path.as_uri()).directory == path


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("s3://bucket/a/../b", "is no plain path"),
        ("s3://bucket/..", "is no plain path"),
        ("s3://bucket//a", "is no plain path"),
        ("s3://bucket/a?versionId=1", "is no plain path"),
        ("file:///a/%2e%2e/b", "is no plain path"),
        ("s3://Bucket/a", "'Bucket' cannot be a bucket"),
        ("s3:///a", "'' cannot be a bucket"),
        ("s3://user:password@bucket/a", "cannot be a bucket"),
        ("file://host/a", "is no address of a store"),
        ("https://bucket/a", "is no address of a store"),
        ("/a/b", "is no address of a store"),
        ("", "is no address of a store"),
    ],
)
def test_what_is_no_address_is_refused(uri, named):
    with pytest.raises(UserError, match=named):
        open_store(uri)


def test_names_with_any_character_come_back(root):
    names = ["a b", "a+b", "a%2Fb", "ä/ö", "a?b#c", "..a/b..", "quote'\"&<>"]
    store = open_store(root)
    for number, name in enumerate(names):
        store.write(name, b"x" * number)
    assert store.sizes() == {name: number for number, name in enumerate(names)}
    assert [len(store.read(name)) for name in names] == [*range(len(names))]


def test_bytes_are_read_from_and_to(root):
    store = open_store(root)
    store.write("a", b"0123456789")
    assert store.read("a") == b"0123456789"
    for start, asked, there in ((2, 3, b"234"), (8, 3, b"89"), (10, 0, b""), (0, 10, b"0123456789")):
        buffer = bytearray(asked)
        assert store.read_into(memoryview(buffer), "a", start) == len(there)
        assert buffer[: len(there)] == there
    with pytest.raises(Missing):
        store.read_into(memoryview(bytearray(1)), "b", 0)


def test_a_file_that_is_being_written_is_in_no_listing(tmp_path, monkeypatch):
    store = FileStore(tmp_path)
    listed = []
    monkeypatch.setattr(os, "fsync", lambda _: listed.append(store.sizes()))
    store.write("deep/a", b"1")
    store.create("deep/b", b"2")
    assert listed == [{}, {"deep/a": 1}]
    assert store.sizes() == {"deep/a": 1, "deep/b": 1}


def test_what_is_deleted_while_it_is_listed_is_no_error(tmp_path, monkeypatch):
    """Another process deletes an object, and the directory in which it made it."""
    store, scan = FileStore(tmp_path), os.scandir
    for name in ("kept", "folder/deleted"):
        store.write(name, b"1")

    def scan_late(path):
        if str(path) == str(tmp_path / "folder"):
            shutil.rmtree(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan_late)
    assert store.sizes() == {"kept": 1}


def assert_preflight_names(field, uri="s3://unsee/x"):
    with pytest.raises((UserError, Failed)) as error:
        preflight(uri)
    assert field in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("variable", "value", "field"),
    [
        ("AWS_ACCESS_KEY_ID", "other", "AWS_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "other", "AWS_SECRET_ACCESS_KEY does not belong"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3 http://127.0.0.1:1 does not answer"),
        ("AWS_ENDPOINT_URL_S3", "nonsense", "AWS_ENDPOINT_URL_S3 'nonsense' is no address"),
        ("AWS_REGION", "not a region", "AWS_REGION 'not a region' is wrong"),
    ],
)
def test_preflight_names_the_wrong_field(variable, value, field, s3, monkeypatch):
    monkeypatch.setenv(variable, value)
    assert_preflight_names(field)


def test_preflight_names_a_bucket_that_is_not_there(s3):
    assert_preflight_names("there is no bucket elsewhere", "s3://elsewhere/x")


def test_preflight_names_missing_credentials(s3, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert_preflight_names("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


def test_preflight_tells_when_tls_is_spoken_to_a_server_without_it(s3, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL"].replace("http:", "https:"))
    assert_preflight_names("no TLS connection to AWS_ENDPOINT_URL")


def test_preflight_tells_when_a_certificate_is_not_trusted(s3, tmp_path, monkeypatch):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    files = ["-keyout", str(key), "-out", str(certificate)]
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=127.0.0.1",
        *files,
    ]
    subprocess.run(request, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=shake_hands, args=(listening, context), daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://127.0.0.1:{listening.getsockname()[1]}")
        assert_preflight_names("AWS_CA_BUNDLE")


def shake_hands(listening, context):
    while True:
        try:
            context.wrap_socket(listening.accept()[0], server_side=True).close()
        except ssl.SSLError:
            continue
        except OSError:
            return
