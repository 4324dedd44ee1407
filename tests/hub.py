"""A Hugging Face hub on a loopback port: the routes by which `datasets` streams a public data set's parquet files, and
`huggingface_hub` fetches the files of a public model.

As on the hub, parquet and safetensors files are in LFS, sent from another address, whole or the bytes asked for; other
files come from the repository itself; and a header tells a missing file from a missing repository.
"""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

REVISION = "0123456789abcdef0123456789abcdef01234567"
ROUTE = re.compile(
    r"/(?:api/)?(?P<name>(?:datasets/|models/)?[^/]+/[^/]+)"
    rf"(?:/(?P<what>resolve|lfs|tree|revision)/(?:main|{REVISION})(?:/(?P<path>[^?]+))?)?(?:\?.*)?"
)


class Hub:
    """Repositories, each a directory, by names that begin with `datasets/` or `models/`; one revision each."""

    def __init__(self, repositories: Mapping[str, Path]) -> None:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"repositories": repositories}))
        self._endpoint = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def environment(self, home: Path) -> dict[str, str]:
        """What makes a process take this for the hub, and for the proxy to everything else, which it refuses."""
        proxies = {"http_proxy": self._endpoint, "https_proxy": self._endpoint, "no_proxy": "127.0.0.1"}
        return {"HF_ENDPOINT": self._endpoint, "HF_HOME": str(home), **proxies}

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class Answer(NamedTuple):
    status: HTTPStatus
    headers: dict[str, str]
    body: bytes = b""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    repositories: Mapping[str, Path]

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        status, headers, body = self._answer()
        self.send_response(status)
        for name, value in {**headers, "X-Repo-Commit": REVISION, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_CONNECT = do_GET  # noqa: N815 (http.server looks for these names)

    def _answer(self) -> Answer:
        if not (route := ROUTE.fullmatch(self.path)):
            return Answer(HTTPStatus.NOT_FOUND, {})
        name, what = route["name"], route["what"]
        root = self.repositories.get(name, self.repositories.get(f"models/{name}"))  # files of models go without
        if root is None:
            return Answer(HTTPStatus.NOT_FOUND, {"X-Error-Code": "RepoNotFound"})
        path = unquote(route["path"] or "")
        file = root / path
        if not file.exists():
            return Answer(HTTPStatus.NOT_FOUND, {"X-Error-Code": "EntryNotFound"})
        if what == "tree":
            return told([entry(found, root) for found in file.iterdir()])
        if what == "lfs":
            return part(file.read_bytes(), self.headers["Range"])
        if what != "resolve":
            return told({"id": name, "sha": REVISION})
        if in_lfs(file):
            return Answer(HTTPStatus.FOUND, {"Location": f"/{name}/lfs/{REVISION}/{quote(path)}"})
        return part(file.read_bytes(), None)


def entry(path: Path, root: Path) -> dict[str, object]:
    """A file or folder as the hub lists it."""
    name = path.relative_to(root).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": sha256(name.encode()), "size": 0, "path": name}
    content = path.read_bytes()
    known = {"oid": sha256(content), "size": len(content)}
    pointer = {"lfs": {**known, "pointerSize": 130}} if in_lfs(path) else {}
    return {"type": "file", "path": name, **known, **pointer}


def in_lfs(path: Path) -> bool:
    return path.suffix in (".parquet", ".safetensors")


def part(content: bytes, wanted: str | None) -> Answer:
    """All of a file, or the bytes that a Range header wants."""
    tag = {"ETag": f'"{sha256(content)}"'}
    if wanted is None:
        return Answer(HTTPStatus.OK, tag, content)
    first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
    some = content[first : last + 1]
    span = f"bytes {first}-{first + len(some) - 1}/{len(content)}"
    return Answer(HTTPStatus.PARTIAL_CONTENT, {**tag, "Content-Range": span}, some)


def told(what: object) -> Answer:
    return Answer(HTTPStatus.OK, {"Content-Type": "application/json"}, json.dumps(what).encode())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
