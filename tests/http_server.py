"""A folder behind http://127.0.0.1, with range requests, and faults on demand."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Served:
    """A running server.

    Attributes:
        address: Of the folder.
        faults: What the next requests get: a status, or 0 for a connection that is cut in the middle of the answer.
        ranges: Whether range requests are honoured.
        requests: Answered so far, faults included.
    """

    address: str = ""
    faults: list[int] = field(default_factory=list)
    ranges: bool = True
    requests: int = 0


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.requests += 1
            fault = state.faults.pop(0) if state.faults else 200
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                return self._answer(404, b"")
            body, status, ranged = path.read_bytes(), 200, ""
            found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if found and state.ranges:
                first, last = found.groups()
                size = len(body)
                start = int(first) if first else max(0, size - int(last))
                body = body[start : int(last) + 1 if first and last else None]
                status, ranged = 206, f"bytes {start}-{start + len(body) - 1}/{size}"
            if fault >= 400:
                return self._answer(fault, b"")
            return self._answer(status, body, cut=fault == 0, ranged=ranged)

        def _answer(self, status: int, body: bytes, cut: bool = False, ranged: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.md5(body).hexdigest()}"')  # S3's clients ask for one
            if ranged:
                self.send_header("Content-Range", ranged)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self.close_connection = True

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
