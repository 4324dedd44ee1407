"""What goes wrong between this machine and a store, as a plugin of proxy.py: the faults of a JSON file, each so often.

A fault is {"method", "path" (a part of it), "times", "after" (as many pass first), "do": …}. `do` is a status (with
"code", the S3 error code), "reset", "truncate" (half of the response, then the connection ends), "stall" (half of the
response, then nothing), "corrupt_response" or "corrupt_request" (one byte is another).
"""

import json
import os
import time
from pathlib import Path

from proxy.http.exception import HttpProtocolException, HttpRequestRejected
from proxy.http.proxy import HttpProxyBasePlugin

FAULTS = "UNSEE_TEST_FAULTS"


class Faults(HttpProxyBasePlugin):
    def handle_client_request(self, request):
        self.fault = taken(request.method.decode(), (request.path or b"").decode())
        self.seen = 0
        do = self.fault.get("do")
        if isinstance(do, int):
            code, message = self.fault.get("code", "InternalError"), self.fault.get("message", "injected")
            body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            raise HttpRequestRejected(do, reason=b"injected", headers={b"Content-Type": b"text/xml"}, body=body)
        if do == "reset":
            raise HttpProtocolException("injected reset")
        if do == "corrupt_request":
            request.body = flipped(request.body)
        return request

    def handle_upstream_chunk(self, chunk):
        do = self.fault.get("do")
        if do == "corrupt_response" and self.seen > 0:
            self.fault = {}
            return memoryview(flipped(chunk.tobytes()))
        if do in ("truncate", "stall") and self.seen + len(chunk) > self.fault["bytes"]:
            if do == "stall":
                time.sleep(self.fault["seconds"])
            raise HttpProtocolException("injected end")
        self.seen += len(chunk)
        return chunk


def flipped(data: bytes) -> bytes:
    """The same with another byte in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def taken(method: str, path: str) -> dict:
    """The fault that meets this request; every fault is counted by files that only one process can create."""
    file = Path(os.environ[FAULTS])
    for number, fault in enumerate(json.loads(file.read_text())):
        if fault["method"] == method and fault.get("path", "") in path:
            turn = next(turn for turn in range(10**6) if first(file.with_name(f"{file.name}-{number}-{turn}")))
            after = fault.get("after", 0)
            if after <= turn < after + fault["times"]:
                return fault
    return {}


def first(file: Path) -> bool:
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
