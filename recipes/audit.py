"""Compares pinned versions with the database of known vulnerabilities, with pip-audit, and says how it ended.

    python audit.py REQUIREMENTS PIP-AUDIT...

PIP-AUDIT is the command that starts it. Exit status: 0: every version was looked up and none is vulnerable; 1: the
versions that are listed are vulnerable; 3: the database gave no answer for a package, so nothing was audited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

NOT_AUDITED = 3
OPTIONS = ("--strict", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--requirement")


def main(words: Sequence[str]) -> int:
    """Prints what pip-audit found, and returns the exit status."""
    requirements, *command = words
    pinned = [line for line in Path(requirements).read_text(encoding="utf-8").splitlines() if "==" in line]
    ran = subprocess.run([*command, *OPTIONS, requirements], capture_output=True, text=True, check=False)
    try:
        looked_up = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"])[-1]
        print(
            "NOT audited: the database of vulnerabilities (https://pypi.org/pypi/NAME/VERSION/json) gave no answer, so "
            f"nothing is known about the {len(pinned)} pinned versions: {last.rpartition('ERROR:pip_audit._cli:')[2]}"
        )
        return NOT_AUDITED
    found = [one for one in looked_up if one.get("vulns")]
    for one in found:
        print(f"{one['name']} {one['version']}: {', '.join(each['id'] for each in one['vulns'])}")
    print(f"audited: {len(looked_up)} of {len(pinned)} pinned versions, {len(found)} with known vulnerabilities")
    if len(looked_up) < len(pinned):
        return NOT_AUDITED
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
