"""What SECURITY.md promises of the source: nothing is unpickled or evaluated, and nothing listens but on loopback."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import maesil
from maesil.store.parallel import local_cluster

SOURCES = sorted(Path(maesil.__file__).parent.rglob("*.py"))
LOOPBACK = ("127.0.0.1", "localhost", "::1")
UNPICKLING = {
    "pickle.load", "pickle.loads", "cPickle.load", "joblib.load", "dill.load", "yaml.load", "yaml.unsafe_load", "eval",
    "exec", "pandas.read_pickle", "pd.read_pickle", "shelve.open",
}  # fmt: skip
SERVERS = ("HTTPServer", "TCPServer", "ThreadingHTTPServer", "ThreadingTCPServer", "create_server")


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """File, name and call, of every call in the package."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path.name, ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(word.value) for word in call.keywords if word.arg == name), None)


def test_sources__unpickle_and_evaluate_nothing() -> None:
    found = list(calls())
    assert len(found) > 2000
    assert [(place, name) for place, name, _ in found if name in UNPICKLING] == []
    arrays = [keyword(call, "allow_pickle") for _, name, call in found if name == "np.load"]
    assert set(arrays) <= {"False", None}  # the default of numpy, too
    loads = [(place, keyword(call, "weights_only")) for place, name, call in found if name == "torch.load"]
    assert {place: given for place, given in loads if given != "True"} == {
        "sharding.py": "weights_only"
    }  # passes it on
    fits = [keyword(call, "weights_only") for _, name, call in found if name == "trainer.fit"]
    assert fits == ["True"]


def test_sources__serve_on_loopback_only() -> None:
    served = [
        (place, ast.unparse(call.args[0]) if call.args else "")
        for place, name, call in calls()
        if name.rpartition(".")[2] in SERVERS
    ]
    assert [place for place, address in served if not any(host in address for host in LOOPBACK)] == []
    everywhere = ("0.0.0.0", "bind_all", "INADDR_ANY", "::0")
    texts = [(path.name, path.read_text(encoding="utf-8")) for path in SOURCES]
    assert [name for name, text in texts if any(word in text for word in everywhere)] == []


@pytest.mark.slow
def test_local_cluster__listens_on_loopback_only() -> None:
    with local_cluster(1):
        here = psutil.Process()
        sockets = [one for process in (here, *here.children(recursive=True)) for one in process.net_connections("inet")]
        listening = {one.laddr.ip for one in sockets if one.status == psutil.CONN_LISTEN}
    assert listening
    assert listening <= set(LOOPBACK)
