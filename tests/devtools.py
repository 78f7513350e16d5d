"""A page in headless Chromium, driven over its DevTools pipe: scripts, keys, pictures, and what the page asked for."""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from browser import CHROMIUM

PATIENCE_S = 120.0


class Page:
    """An open page.

    Attributes:
        requested: Addresses that the page has asked for so far, except `data:` and `blob:`.
        complaints: Errors and violations of its policy that the browser reported.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._write = os.fdopen(to_browser, "wb", buffering=0)
        self._read = os.fdopen(from_browser, "rb")
        self._number, self._session = 0, ""
        self.requested: list[str] = []
        self.complaints: list[str] = []

    def attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def open(self, address: str) -> None:
        """Goes to an address and returns when the document is there."""
        self.call("Page.navigate", url=address)
        self.wait_for("document.readyState === 'complete'")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        content = bytearray()
        while (byte := self._read.read(1)) != b"\0":
            assert byte, "the browser has gone"
            content += byte
        message: dict[str, Any] = json.loads(content)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        found = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            address = found["request"]["url"]
            if not address.startswith(("data:", "blob:")):
                self.requested.append(address)
        if message.get("method") == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.complaints.append(found["entry"]["text"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(found["exceptionDetails"]))

    def run(self, script: str) -> Any:
        """The value of an expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The value of an expression as soon as it is true."""
        began = time.monotonic()
        while not (value := self.run(script)):
            assert time.monotonic() - began < PATIENCE_S, f"never true: {script}; {self.complaints}"
            time.sleep(0.05)
        return value

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self) -> npt.NDArray[np.uint8]:
        """What the page shows, as rows of RGB pixels."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are not the descriptors that the browser gets."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]


@contextmanager
def browser_page(profile: Path, size: tuple[int, int] = (1002, 700)) -> Iterator[Page]:
    """A blank page in a browser of its own.

    Args:
        profile: New folder for the browser's files.
        size: Width and height of the window; in the default, four columns of `maesil view` are whole pixels.
    """
    in_read, in_write = _pipe()
    out_read, out_write = _pipe()
    flags = ["--headless", "--no-sandbox", "--remote-debugging-pipe", f"--window-size={size[0]},{size[1]}"]
    flags += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}"]
    # The pipe's ends are descriptors 3 and 4 of the browser.
    shell = ["bash", "-c", f'exec "$@" 3<&{in_read} 4>&{out_write}', "bash"]
    process = subprocess.Popen(
        [*shell, str(CHROMIUM), *flags], pass_fds=(in_read, out_write), stderr=subprocess.DEVNULL
    )
    os.close(in_read)
    os.close(out_write)
    page = Page(in_write, out_read)
    try:
        page.attach()
        yield page
    finally:
        page._write.close()
        page._read.close()
        process.terminate()
        process.wait()
