"""The page's server: this machine, this token, these names, and nothing else."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator

import pytest

from maesil.errors import StoreError
from maesil.view.server import Answer, PageServer


def find(name: str) -> Answer | None:
    if name == "broken":
        raise StoreError("voxels are missing", fix="copy the store again")
    return Answer("text/plain", b"the page") if name in ("", "page") else None


@pytest.fixture
def server() -> Iterator[PageServer]:
    made = PageServer(find)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    yield made
    made.stop()
    thread.join()
    made.close()


def ask(server: PageServer, path: str, *, host: str = "", method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
    place = server.address.split("/")[2]
    connection = http.client.HTTPConnection(place, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or place)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read(), dict(answer.getheaders())
    connection.close()
    return found


def test_serve__gives_what_it_knows_to_the_token(server: PageServer) -> None:
    for name in ("", "page", "page?again"):
        status, body, headers = ask(server, f"/{server.token}/{name}")
        assert (status, body) == (200, b"the page")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "http" not in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
    assert len(server.token) >= 32
    other = PageServer(find)
    other.close()
    assert other.token != server.token


@pytest.mark.parametrize("path", ["/", "/page", "/wrong/page", "/{half}/page", "/{token}", "/{token}x/page"])
def test_serve__refuses_another_token(server: PageServer, path: str) -> None:
    asked = path.format(token=server.token, half=server.token[:16])
    status, body, _ = ask(server, asked)
    assert status == 403
    assert server.token.encode() not in body
    assert b"the page" not in body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1"])
def test_serve__refuses_another_host(server: PageServer, host: str) -> None:
    """A page elsewhere whose name was changed to this machine still sends its own name."""
    assert ask(server, f"/{server.token}/", host=host)[0] == 403


@pytest.mark.parametrize(
    "name",
    [
        "../page",
        "..%2fpage",
        "/etc/passwd",
        "../../../../../etc/passwd",
        "%2e%2e/page",
        "view.py",
        "page/",
        "\\..\\page",
    ],
)
def test_serve__knows_names_not_files(server: PageServer, name: str) -> None:
    status, body, _ = ask(server, f"/{server.token}/{name}")
    assert (status, body) == (404, b"there is nothing here")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_serve__only_answers_get(server: PageServer, method: str) -> None:
    assert ask(server, f"/{server.token}/", method=method)[0] == 501


def test_serve__passes_errors_on(server: PageServer) -> None:
    status, body, _ = ask(server, f"/{server.token}/broken")
    assert status == 500
    assert body.decode().splitlines() == ["voxels are missing", "  fix:   copy the store again"]


def test_serve__listens_on_this_machine_alone(server: PageServer) -> None:
    assert server.address.startswith("http://127.0.0.1:")
    assert server._server.socket.getsockname()[0] == "127.0.0.1"
