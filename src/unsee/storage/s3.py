"""S3-compatible object stores, over boto3. What every AWS tool reads from the environment is read here too:

AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_CA_BUNDLE. Requests are
retried, with checksums in both directions; what then still fails is told as the field that is wrong.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import exceptions
from botocore.config import Config
from botocore.httpchecksum import Crc32Checksum
from botocore.response import StreamingBody

from unsee.errors import UserError
from unsee.storage.artifact import file_digest
from unsee.storage.store import CONNECTIONS, Damaged, Failed, Missing, Parts, require_inside

ATTEMPTS = 5
SECONDS_WITHOUT_A_BYTE = 30
CHUNK = 1 << 16
"""Read at a time: urllib3 makes a copy of it."""
DEFAULT_REGION = "us-east-1"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
"""The first that is set is the one that counts."""
TRANSFERS = TransferConfig(max_concurrency=CONNECTIONS)
ABSENT = ("NoSuchKey", "404")
# S3's error codes, and what to do about them. {code} and {message} are the server's words.
MENDS = {
    "NoSuchBucket": "there is no bucket {bucket} at {endpoint}; create it or correct the bucket",
    "InvalidAccessKeyId": "{endpoint} does not know this AWS_ACCESS_KEY_ID; correct it",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not belong to this AWS_ACCESS_KEY_ID; correct it",
    "AccessDenied": "this AWS_ACCESS_KEY_ID may not do this in bucket {bucket}; have it allowed or use another key",
    "ExpiredToken": "the credentials have expired; renew them, AWS_SESSION_TOKEN included",
    "InvalidToken": "AWS_SESSION_TOKEN is wrong; correct it",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "AuthorizationHeaderMalformed": "AWS_REGION {region} is wrong ({message}); correct it",
    "IllegalLocationConstraintException": "AWS_REGION {region} is wrong ({message}); correct it",
    "PermanentRedirect": "bucket {bucket} is not in AWS_REGION {region}; correct the region",
    "301": "bucket {bucket} is not in AWS_REGION {region}; correct the region",
    "400": "{variable} {endpoint} does not speak S3; if it expects TLS, write https://",
}
BROKEN_OFF = (
    exceptions.ReadTimeoutError,
    exceptions.ResponseStreamingError,
    exceptions.IncompleteReadError,
    exceptions.FlexibleChecksumError,
)

Result = TypeVar("Result")


class S3Store:
    """Objects below a prefix of a bucket."""

    def __init__(self, bucket: str, prefix: str):
        self.bucket, self.prefix = bucket, f"{prefix}/" if prefix else ""
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self.region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION
        rules = Config(
            max_pool_connections=CONNECTIONS,
            connect_timeout=10,
            read_timeout=SECONDS_WITHOUT_A_BYTE,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        )
        self.variable = next(filter(os.environ.get, ENDPOINTS), ENDPOINTS[-1])
        self.endpoint = os.environ.get(self.variable) or "AWS"
        with self.told():
            # A session of its own: boto3's default one keeps the first credentials it found.
            try:
                self.client = boto3.Session().client("s3", region_name=self.region, config=rules)
            except exceptions.InvalidRegionError as error:
                raise UserError(f"{self.uri}: AWS_REGION {self.region!r} is wrong ({error}); correct it") from error
            except ValueError as error:
                raise UserError(f"{self.uri}: {self.variable} {self.endpoint!r} is no address ({error})") from error

    def sizes(self) -> dict[str, int]:
        with self.told():
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
            objects = [found for page in pages for found in page.get("Contents", [])]
        # A key that ends with / is what consoles make to show a folder.
        return {f["Key"].removeprefix(self.prefix): f["Size"] for f in objects if not f["Key"].endswith("/")}

    def read(self, name: str) -> bytes:
        with self.told():
            return _retried(lambda: self._get(name, {})["Body"].read())

    def read_into(self, buffer: memoryview, name: str, start: int) -> int:
        if not buffer:
            return 0
        part = {"Range": f"bytes={start}-{start + len(buffer) - 1}"}
        with self.told():
            return _retried(lambda: _fill(buffer, self._get(name, part)["Body"]))

    def _get(self, name: str, part: Mapping[str, str]) -> dict[str, Any]:
        return self.client.get_object(Bucket=self.bucket, Key=self.key(name), **part)

    def write(self, name: str, data: bytes) -> None:
        with self.told():
            self.client.put_object(Bucket=self.bucket, Key=self.key(name), Body=data)

    def create(self, name: str, data: bytes) -> bool:
        with self.told():
            self._put_if_absent({"Bucket": self.bucket, "Key": self.key(name), "Body": data, "IfNoneMatch": "*"})
        # The refusal may be of a retry, whose first attempt succeeded without our hearing of it.
        return self.read(name) == data

    def _put_if_absent(self, request: dict[str, Any]) -> None:
        """Put unless there is an object; AWS refuses rivals that put at the same moment, and one may try again."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.client.put_object(**request)
                return
            except exceptions.ClientError as error:
                if code_of(error) in ("PreconditionFailed", "412"):
                    return
                if code_of(error) != "ConditionalRequestConflict" or attempt == ATTEMPTS:
                    raise
                time.sleep(0.1 * 2**attempt)

    def delete(self, name: str) -> None:
        with self.told():
            self.client.delete_object(Bucket=self.bucket, Key=self.key(name))

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with TemporaryDirectory() as directory:
            file = Path(directory) / "object"
            yield file
            noted = {"Metadata": {"sha256": file_digest(file)}}
            with self.told(), file.open("rb") as data:
                self.client.upload_fileobj(data, self.bucket, self.key(name), ExtraArgs=noted, Config=TRANSFERS)

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        with TemporaryDirectory() as directory:
            file = Path(directory) / "object"
            with self.told():
                noted = _retried(partial(self._save, name, file))
            if noted.get("sha256") != file_digest(file):
                raise Damaged(f"{self.uri}/{name}: sha256 differs")
            yield file

    def _save(self, name: str, file: Path) -> dict[str, str]:
        """Write an object to a file. Returns what is noted of it: of these bytes, though another writer replaces it."""
        found = self._get(name, {})
        with file.open("wb") as data:
            shutil.copyfileobj(found["Body"], data, CHUNK)
        return found["Metadata"]

    def parts(self, name: str, size: int, part: int) -> Parts:
        with self.told():
            return _Multipart(self, self.key(name), size)

    def key(self, name: str) -> str:
        """The object's key in the bucket."""
        return self.prefix + require_inside(name)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever goes wrong inside the block, as one sentence."""
        try:
            yield
        except exceptions.ClientError as error:
            if code_of(error) in ABSENT:
                raise Missing(f"{self.uri}: no such object") from error
            mend = MENDS.get(code_of(error))
            if mend is None:
                raise Failed(f"{self.uri}: {self.endpoint} kept failing ({error})") from error
            told = {"bucket": self.bucket, "variable": self.variable, "endpoint": self.endpoint, "region": self.region}
            raise UserError(f"{self.uri}: {mend.format(**told, message=error.response['Error']['Message'])}") from error
        except exceptions.NoCredentialsError as error:
            raise UserError(f"{self.uri}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
        except exceptions.PartialCredentialsError as error:
            raise UserError(f"{self.uri}: {error}; set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
        except exceptions.SSLError as error:
            raise UserError(
                f"{self.uri}: no TLS connection to {self.variable} {self.endpoint} ({error.kwargs['error']}); write "
                "http:// if it speaks none, or name the CA of its certificate in AWS_CA_BUNDLE"
            ) from error
        except (exceptions.EndpointConnectionError, exceptions.ConnectTimeoutError) as error:
            raise UserError(
                f"{self.uri}: {self.variable} {self.endpoint} does not answer; start the server or correct the address"
            ) from error
        except exceptions.BotoCoreError as error:
            reason = " ".join(str(error).split())
            raise Failed(f"{self.uri}: the connection to {self.endpoint} kept breaking ({reason})") from error


class _Multipart:
    """An S3 multipart upload, the newest unfinished one of its key if there is one.

    AWS takes parts with checksums only if the upload was created with their algorithm, and then wants all at the end.
    """

    def __init__(self, store: S3Store, key: str, size: int):
        self.store, self.key, self.size = store, key, size
        self.client, self.address = store.client, {"Bucket": store.bucket, "Key": key}
        found = self.client.list_multipart_uploads(Bucket=store.bucket, Prefix=key).get("Uploads", [])
        ours = sorted((upload for upload in found if upload["Key"] == key), key=lambda upload: upload["Initiated"])
        upload = ours[-1] if ours else self.client.create_multipart_upload(**self.address, ChecksumAlgorithm="CRC32")
        self.address["UploadId"] = upload["UploadId"]
        self.finished = False
        self.arrived: dict[int, str] = {}
        self.parts: dict[int, dict[str, str | int]] = {}
        with self._unless_finished():
            pages = self.client.get_paginator("list_parts").paginate(**self.address) if ours else []
            self.arrived = {part["PartNumber"]: part["ETag"] for page in pages for part in page.get("Parts", [])}

    def put(self, index: int, data: bytes) -> None:
        number, checksum = index + 1, {"ChecksumCRC32": Crc32Checksum().handle(data)}
        etag = self.arrived.get(number)
        with self._unless_finished():
            if etag is None or etag != f'"{hashlib.md5(data).hexdigest()}"':
                etag = self.client.upload_part(**self.address, PartNumber=number, Body=data, **checksum)["ETag"]
            self.parts[number] = {"PartNumber": number, "ETag": etag, **checksum}

    def finish(self) -> None:
        if self.finished:
            return
        parts = [part for _, part in sorted(self.parts.items())]
        with self._unless_finished():
            self.client.complete_multipart_upload(**self.address, MultipartUpload={"Parts": parts})

    @contextmanager
    def _unless_finished(self) -> Iterator[None]:
        """Another writer of the same bytes may finish first; then the object is there."""
        with self.store.told():
            try:
                yield
            except exceptions.ClientError as error:
                if code_of(error) != "NoSuchUpload" or self._finished_size() != self.size:
                    raise
                self.finished = True

    def _finished_size(self) -> int:
        return self.client.head_object(Bucket=self.store.bucket, Key=self.key)["ContentLength"]


def _fill(buffer: memoryview, body: StreamingBody) -> int:
    """Read a response to its end, where its length and checksum are checked; returns how many bytes it had."""
    filled = 0
    while filled < len(buffer) and (count := body.readinto(buffer[filled : filled + CHUNK])):
        filled += count
    body.read()
    return filled


def _retried(fetch: Callable[[], Result]) -> Result:
    """botocore retries what happens before the body of a response, this what happens in it."""
    for attempt in range(1, ATTEMPTS):
        try:
            return fetch()
        except BROKEN_OFF:
            time.sleep(0.1 * 2**attempt)
    return fetch()


def code_of(error: exceptions.ClientError) -> str:
    """S3's code of an error, such as NoSuchKey; the status where a response has no body."""
    return str(error.response.get("Error", {}).get("Code", ""))
