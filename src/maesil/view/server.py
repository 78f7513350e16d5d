"""A server for one page: it answers this machine alone, whoever knows its token, and has no access to files."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, final

from maesil.errors import MaesilError

LOOPBACK = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the browser may load for the page: from this server, or from the page itself, and nothing else."""


@dataclass(frozen=True)
class Answer:
    """The content of an address.

    Attributes:
        kind: Media type.
        body: Content.
    """

    kind: str
    body: bytes


@final
class PageServer:
    """Serves what a function knows under ``http://127.0.0.1:PORT/TOKEN/NAME``; requests without the token get nothing.

    Args:
        find: Function from a name to its content; None for an unknown name. It may be called by several threads.

    Attributes:
        token: Random part of the address, which other users and pages cannot guess.
    """

    def __init__(self, find: Callable[[str], Answer | None]) -> None:
        self.token = secrets.token_urlsafe(24)
        self._server = _QuietServer((LOOPBACK, 0), _handler(find, self.token))

    @property
    def address(self) -> str:
        """Address of the page."""
        return f"http://{LOOPBACK}:{self._server.server_port}/{self.token}/"

    def serve(self) -> None:
        """Answers requests until `stop` is called or Ctrl-C is pressed."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """Ends `serve` in another thread."""
        self._server.shutdown()

    def close(self) -> None:
        """Gives the port back."""
        self._server.server_close()


@final
class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True  # an open connection does not keep the command alive

    def handle_error(self, request: Any, client_address: Any) -> None:
        """No traceback for a page that was closed while it loaded."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(find: Callable[[str], Answer | None], token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "maesil", ""

        def do_GET(self) -> None:
            if not self._is_for_us():
                return self._say(HTTPStatus.FORBIDDEN, "wrong address: copy the whole one that `maesil view` printed")
            name = self.path.partition("?")[0].removeprefix(f"/{token}/")
            try:
                answer = find(name)
            except MaesilError as error:
                return self._say(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            if answer is None:
                return self._say(HTTPStatus.NOT_FOUND, "there is nothing here")
            return self._send(HTTPStatus.OK, answer)

        def _is_for_us(self) -> bool:
            """Whether the request has the token, and the host of this machine: other pages send their own host."""
            port = self.connection.getsockname()[1]
            if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
                return False
            first = self.path.lstrip("/").partition("/")[0]
            return secrets.compare_digest(first.encode(), token.encode()) and self.path.startswith(f"/{token}/")

        def _say(self, status: HTTPStatus, text: str) -> None:
            self._send(status, Answer("text/plain; charset=utf-8", text.encode()))

        def _send(self, status: HTTPStatus, answer: Answer) -> None:
            self.send_response(status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *arguments: object) -> None:
            """No log: the address has the token."""

    return Handler
