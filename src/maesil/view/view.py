"""The command `view`: shows scans, stores and reconstructions in the browser."""

from __future__ import annotations

import json
import threading
import webbrowser
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, final

from maesil.ct.volume import Volume
from maesil.ct.write import nifti_bytes
from maesil.errors import ConfigError
from maesil.files import AnyPath, as_paths
from maesil.view.pictures import Pictures, Shown
from maesil.view.server import Answer, PageServer
from maesil.view.sources import Which, open_sources

SCRIPT = "text/javascript; charset=utf-8"
FILES: Mapping[str, tuple[str, str]] = {
    "": ("view.html", "text/html; charset=utf-8"),
    "view.css": ("view.css", "text/css; charset=utf-8"),
    "view.js": ("view.js", SCRIPT),
    "niivue.js": ("niivue/niivue.umd.js", SCRIPT),
}
"""Name in the address to file of this package and media type; volumes are made in memory."""

KEPT = 2
"""Number of scans that stay in memory: going back to the last one does not rebuild it."""


def view(
    sources: AnyPath | Sequence[AnyPath],
    *,
    split: str | None = None,
    store: AnyPath | None = None,
    labels: AnyPath | None = None,
    checkpoint: Which = "last",
    browser: bool = True,
    opened: Callable[[str], None] | None = None,
) -> None:
    """Shows volumes in the browser, from a server that only this machine reaches, until Ctrl-C.

    Args:
        sources: Stores (all scans), runs (scans of a split, as the run rebuilds them) and scans. Scans that are given
            after a run are rebuilt by it.
        split: Split of the runs' scans; None: the one that `evaluate` scores.
        store: Store of the runs' scans; None: the runs' own.
        labels: Labels of the scan, if one is given.
        checkpoint: Which of the runs' checkpoints to load.
        browser: Whether to open the page in the browser.
        opened: Called with the page's address when the server runs.

    Raises:
        ConfigError: Nothing is given, or labels are given for more or less than one scan.
        CheckpointError: There is no such run.
        StoreError: There is no such store, or the split is empty.
    """
    paths = as_paths(sources)
    if not paths:
        raise ConfigError("nothing to view", fix="give stores, runs or scans: maesil view STORE|RUN|SCAN...")
    place, drawn = (None if each is None else Path(each) for each in (store, labels))
    shown = open_sources(paths, split=split, store=place, labels=drawn, checkpoint=checkpoint)
    server = PageServer(Content(shown).find)
    try:
        if opened is not None:
            opened(server.address)
        if browser:
            threading.Thread(target=webbrowser.open, args=(server.address,), daemon=True).start()
        server.serve()
    except KeyboardInterrupt:
        return
    finally:
        server.close()


@final
class Content:
    """What the page's server knows: the page, the list of scans, and the volumes of each.

    Args:
        shown: Scans to list.
    """

    def __init__(self, shown: Sequence[Shown]) -> None:
        self._shown = shown
        self._lock = threading.Lock()
        self._loaded: OrderedDict[int, Pictures] = OrderedDict()

    def find(self, name: str) -> Answer | None:
        """The content of a name of the page's address; None for an unknown name."""
        if name in FILES:
            file, kind = FILES[name]
            return Answer(kind, (resources.files("maesil.view") / file).read_bytes())
        if name == "scans.json":
            return _json([{"name": each.name, "group": each.group} for each in self._shown])
        number, _, part = name.partition("/")
        if not (number.isascii() and number.isdigit() and int(number) < len(self._shown)):
            return None
        return self._of_scan(int(number), part)

    def _of_scan(self, number: int, part: str) -> Answer | None:
        if part == "scan.json":
            return _json(_described(self._pictures(number)))
        name = part.removesuffix(".nii")
        volume = _volumes(self._pictures(number)).get(name) if name != part else None
        if volume is None:
            return None
        return Answer("application/octet-stream", nifti_bytes(volume, labels=name in ("mask", "labels")))

    def _pictures(self, number: int) -> Pictures:
        """The volumes of a scan; one scan is loaded at a time, whatever the page asks for."""
        with self._lock:
            if number not in self._loaded:
                self._loaded[number] = self._shown[number].load()
            self._loaded.move_to_end(number)
            while len(self._loaded) > KEPT:
                self._loaded.popitem(last=False)
            return self._loaded[number]


def _volumes(pictures: Pictures) -> dict[str, Volume]:
    """The volumes that a scan has, by the name of their file."""
    parts = ("original", "reconstruction", "error", "mask", "labels")
    return {name: volume for name in parts if (volume := getattr(pictures, name)) is not None}


def _described(pictures: Pictures) -> dict[str, Any]:
    """What the page needs to know of a scan before it loads the volumes."""
    window = pictures.window
    return {
        "volumes": list(_volumes(pictures)),
        "window": None if window is None else [window.low_hu, window.high_hu],
        "names": {str(number): structure for structure, number in pictures.names.items()},
        "shape": list(pictures.original.shape),
        "spacing": list(pictures.original.spacing_mm),
    }


def _json(value: Any) -> Answer:
    return Answer("application/json", json.dumps(value).encode())
