"""The Chromium of this machine, if it has one; run as a script, says so."""

from __future__ import annotations

import shutil

NAMES = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "google-chrome-for-testing", "chrome",
    "headless_shell", "chrome-headless-shell",
)  # fmt: skip
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)

if __name__ == "__main__":
    print(f"Chromium: {CHROMIUM or 'not here, so the tests of the page in a browser are skipped'}")  # noqa: T201
