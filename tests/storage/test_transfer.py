"""What comes back from a store is what was brought there, bit for bit, or nothing."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from made_artifacts import make

from unsee.errors import UserError
from unsee.storage import artifact, transfer
from unsee.storage.artifact import MANIFEST
from unsee.storage.store import open_store
from unsee.storage.transfer import PART, download, preflight, published, upload

CHILD = """
import sys
from pathlib import Path
from unsee.storage import transfer
what, directory, address = sys.argv[1:]
if what == "upload":
    print(transfer.upload(Path(directory), "model", address))
else:
    transfer.download(address, Path(directory), "model")
"""


def child(what: str, directory: Path, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, what, str(directory), address], stdout=-1, stderr=-1, text=True
    )


def contents(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def beside(directory: Path) -> list[str]:
    """What lies around a directory, of it."""
    return sorted(p.name for p in directory.parent.iterdir() if directory.name in p.name)


def test_a_round_trip_keeps_every_byte_and_leaves_nothing_else(root, model, tmp_path):
    uri = upload(model, "model", root)
    manifest = download(uri, tmp_path / "back", "model")
    assert contents(tmp_path / "back") == contents(model)
    assert manifest == artifact.read(tmp_path / "back", "model")
    assert uri == f"{root}/model/{manifest.digest}"
    assert beside(tmp_path / "back") == ["back"]


def test_parts_that_take_each_other_s_memory_arrive_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "PART", 1000)
    with artifact.create(tmp_path / "model", "model", {}):
        for size in (0, 1, 999, 1000, 1001, 50_000, 123_457):
            (tmp_path / "model" / str(size)).write_bytes(os.urandom(size))
    uri = upload(tmp_path / "model", "model", (tmp_path / "store").as_uri())
    download(uri, tmp_path / "back", "model")
    assert contents(tmp_path / "back") == contents(tmp_path / "model")


def test_nothing_is_sent_or_fetched_twice(s3, model, tmp_path, inject):
    uri = upload(model, "model", s3)
    download(uri, tmp_path / "back", "model")
    inject({"method": "PUT", "times": 99, "do": 500}, {"method": "GET", "path": "bin", "times": 99, "do": 500})
    assert upload(model, "model", s3) == uri
    download(uri, tmp_path / "back", "model")


def test_an_artifact_without_its_manifest_is_not_there(root, model, tmp_path):
    uri = upload(model, "model", root)
    open_store(uri).delete(MANIFEST)
    with pytest.raises(UserError, match=r"is no complete model: manifest\.json is missing"):
        download(uri, tmp_path / "back", "model")
    assert beside(tmp_path / "back") == []


def test_a_local_file_that_differs_from_the_manifest_is_not_brought_to_the_store(root, model):
    with (model / "deep" / "weights.bin").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x00" if file.read(1) != b"\x00" else b"\x01")
    with pytest.raises(UserError, match=r"weights\.bin was changed or damaged"):
        upload(model, "model", root)
    assert MANIFEST not in open_store(f"{root}/model/{artifact.read(model, 'model', verify=False).digest}").sizes()


def test_a_damaged_object_is_refused_and_nothing_of_it_kept(root, model, tmp_path):
    uri = upload(model, "model", root)
    open_store(uri).write("deep/weights.bin", bytes(17 << 20))
    with pytest.raises(UserError, match=r"weights\.bin is damaged \(sha256 differs"):
        download(uri, tmp_path / "back", "model")
    assert not (tmp_path / "back").exists()


def test_a_lost_object_is_named(root, model, tmp_path):
    uri = upload(model, "model", root)
    open_store(uri).delete("deep/weights.bin")
    with pytest.raises(UserError, match=r"weights\.bin is missing though manifest\.json lists it"):
        download(uri, tmp_path / "back", "model")


def test_a_lost_object_is_brought_there_by_the_next_upload(root, model, tmp_path):
    uri = upload(model, "model", root)
    open_store(uri).delete("deep/weights.bin")
    assert upload(model, "model", root) == uri
    download(uri, tmp_path / "back", "model")
    assert contents(tmp_path / "back") == contents(model)


def test_a_lost_local_file_is_named_before_anything_is_sent(root, model):
    (model / "deep" / "empty").unlink()
    with pytest.raises(UserError, match=r"deep/empty is missing though manifest\.json lists it"):
        upload(model, "model", root)
    assert open_store(root).sizes() == {}


def test_a_manifest_that_leads_out_of_the_directory_is_refused(root, model, tmp_path):
    uri = upload(model, "model", root)
    manifest = json.loads(open_store(uri).read(MANIFEST))
    manifest["files"]["../outside"] = manifest["files"].pop("deep/empty")
    open_store(uri).write(MANIFEST, json.dumps(manifest).encode())
    with pytest.raises(UserError, match=r"files outside the directory: '\.\./outside'"):
        download(uri, tmp_path / "back", "model")
    assert not (tmp_path / "outside").exists()


def test_an_artifact_of_another_kind_is_refused(root, model, tmp_path):
    with pytest.raises(UserError, match="holds a model, not a benchmark"):
        download(upload(model, "model", root), tmp_path / "back", "benchmark")


def test_somebody_elses_directory_is_left_alone(root, model, tmp_path):
    uri = upload(model, "model", root)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("private")
    with pytest.raises(UserError, match="is not empty and holds no model"):
        download(uri, tmp_path / "mine", "model")
    assert contents(tmp_path / "mine") == {"diary.txt": b"private"}


def test_an_older_artifact_of_the_kind_is_replaced_and_a_damaged_one_mended(root, model, tmp_path):
    back = make(tmp_path / "back", megabytes=1)
    uri = upload(model, "model", root)
    download(uri, back, "model")
    assert contents(back) == contents(model)
    (back / "deep" / "weights.bin").write_bytes(b"damaged")
    download(uri, back, "model")
    assert contents(back) == contents(model)


def test_an_interrupted_download_goes_on_where_it_ended_even_in_the_middle_of_a_file(root, model, tmp_path):
    uri = upload(model, "model", root)
    digest = artifact.read(model, "model").digest
    unfinished = tmp_path / f".back.{digest[:16]}"
    shutil.copytree(model, unfinished, ignore=shutil.ignore_patterns(MANIFEST, "with*"))
    weights = unfinished / "deep" / "weights.bin"
    os.truncate(weights, PART + 5)
    inode = weights.stat().st_ino
    download(uri, tmp_path / "back", "model")
    assert contents(tmp_path / "back") == contents(model)
    assert (tmp_path / "back" / "deep" / "weights.bin").stat().st_ino == inode
    assert beside(tmp_path / "back") == ["back"]


def test_what_an_interrupted_download_left_damaged_is_fetched_again(root, model, tmp_path):
    uri = upload(model, "model", root)
    unfinished = tmp_path / f".back.{artifact.read(model, 'model').digest[:16]}"
    (unfinished / "deep").mkdir(parents=True)
    (unfinished / "deep" / "weights.bin").write_bytes(bytes(PART))
    download(uri, tmp_path / "back", "model")
    assert contents(tmp_path / "back") == contents(model)


def test_an_interrupted_upload_does_not_send_the_parts_again_that_arrived(s3, model, inject, tmp_path):
    inject({"method": "PUT", "path": "partNumber=3", "times": 99, "do": 400, "code": "Injected"})
    with pytest.raises(Exception, match="Injected"):
        upload(model, "model", s3)
    inject(*({"method": "PUT", "path": f"partNumber={n}", "times": 99, "do": 400, "code": "Again"} for n in (1, 2)))
    uri = upload(model, "model", s3)
    download(uri, tmp_path / "back", "model")
    assert contents(tmp_path / "back") == contents(model)


def test_an_object_of_several_parts_holds_the_checksum_of_each_the_resumed_ones_included(s3, model, inject):
    """AWS refuses parts with checksums where the upload was begun without, and an end without those of all parts."""
    inject({"method": "PUT", "path": "partNumber=3", "times": 99, "do": 400, "code": "Injected"})
    with pytest.raises(Exception, match="Injected"):
        upload(model, "model", s3)
    inject()
    store = open_store(upload(model, "model", s3))
    weights = {"Bucket": store.bucket, "Key": store.key("deep/weights.bin")}
    found = store.client.head_object(**weights, ChecksumMode="ENABLED")
    assert (found["ChecksumType"], found["ChecksumCRC32"].partition("-")[2]) == ("COMPOSITE", "4")


def test_an_upload_to_a_directory_that_fails_leaves_nothing_of_its_file(model, tmp_path):
    with (model / "deep" / "weights.bin").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match=r"weights\.bin was changed or damaged"):
        upload(model, "model", (tmp_path / "store").as_uri())
    gc.collect()
    assert {path.name for path in (tmp_path / "store").rglob("*.bin*")} == set()


def test_a_manifest_is_on_the_disk_after_the_files_that_it_lists(model, tmp_path, monkeypatch):
    """What a power cut leaves, too, is an artifact or none."""
    synced, fsync = [], os.fsync

    def noted(file: int) -> None:
        synced.append(Path(f"/proc/self/fd/{file}").readlink())
        fsync(file)

    monkeypatch.setattr(os, "fsync", noted)
    upload(model, "model", (tmp_path / "store").as_uri())
    names = [path.name for path in synced]
    assert names.index("weights.bin") < names.index(MANIFEST)


@pytest.mark.parametrize("what", ["upload", "download"])
def test_a_transfer_killed_at_any_instant_leaves_no_artifact_and_ends_whole_the_next_time(what, s3, tmp_path):
    model = make(tmp_path / "model", megabytes=40)
    digest = artifact.read(model, "model").digest
    uri = f"{s3}/model/{digest}"
    if what == "download":
        upload(model, "model", s3)
    directory, address = (model, s3) if what == "upload" else (tmp_path / "back", uri)
    for milliseconds in (400, 700, 1000):
        transfer = child(what, directory, address)
        time.sleep(milliseconds / 1000)
        transfer.send_signal(signal.SIGKILL)
        transfer.wait()
        if what == "download" and (tmp_path / "back").exists():
            artifact.read(tmp_path / "back", "model")
        if what == "upload" and MANIFEST in (sizes := open_store(uri).sizes()):
            assert sizes["deep/weights.bin"] == 40 << 20
    assert child(what, directory, address).wait() == 0
    download(uri, tmp_path / "back", "model")
    assert contents(tmp_path / "back") == contents(model)


def test_of_two_writers_of_one_artifact_one_wins_whole(root, tmp_path):
    """The same files, but manifests that differ: both end well, and one manifest is there."""
    one, other = make(tmp_path / "one"), tmp_path / "other"
    shutil.copytree(one, other)
    manifest = json.loads((other / MANIFEST).read_text())
    artifact.write_json(other / MANIFEST, {**manifest, "facts": {"made": "elsewhere"}})
    writers = [child("upload", directory, root) for directory in (one, other)]
    told = [writer.communicate() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], told
    (uri,) = {out.strip() for out, _ in told}
    download(uri, tmp_path / "back", "model")
    assert contents(tmp_path / "back") in (contents(one), contents(other))


def test_a_second_manifest_does_not_replace_the_first(root):
    store = open_store(root)
    assert store.create(MANIFEST, b"first")
    assert not store.create(MANIFEST, b"second")
    assert store.create(MANIFEST, b"first")
    assert store.read(MANIFEST) == b"first"


def test_of_many_writers_of_a_new_object_exactly_one_succeeds(root):
    store, won = open_store(root), []
    threads = [threading.Thread(target=lambda i=i: won.append(store.create("claim", b"%d" % i))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 7 + [True]


def test_several_processes_may_fetch_the_same_to_the_same_place(s3, model, tmp_path):
    uri = upload(model, "model", s3)
    readers = [child("download", tmp_path / "back", uri) for _ in range(3)]
    told = [reader.communicate() for reader in readers]
    assert [reader.returncode for reader in readers] == [0, 0, 0], told
    assert contents(tmp_path / "back") == contents(model)
    assert beside(tmp_path / "back") == ["back"]


def test_preflight_leaves_nothing(root):
    preflight(root)
    assert open_store(root).sizes() == {}


def test_others_find_an_artifact_at_its_address_in_s3_or_in_the_store_and_never_where_only_kfp_does(
    root, tmp_path, monkeypatch
):
    model = make(tmp_path / "model", megabytes=1)
    monkeypatch.setenv("UNSEE_STORE", root)
    assert published(model, "model", "s3://bucket/model") == "s3://bucket/model"
    for uri in ("minio://mlpipeline/v2/artifacts/model", model.as_uri(), ""):
        address = published(model, "model", uri)
        assert address.startswith(root)
        download(address, tmp_path / "back", "model")
