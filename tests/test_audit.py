"""`make audit` never calls versions sound that it did not look up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[1] / "recipes" / "audit.py"
SOUND = {"name": "numpy", "version": "2.0.0", "vulns": []}
VULNERABLE = {"name": "pillow", "version": "8.0.0", "vulns": [{"id": "PYSEC-2021-1"}, {"id": "PYSEC-2021-2"}]}
CASES = {
    "sound": ([SOUND, {**SOUND, "name": "pillow"}], 0, ["audited: 2 of 2 pinned versions, 0 with known"]),
    "vulnerable": ([SOUND, VULNERABLE], 1, ["pillow 8.0.0: PYSEC-2021-1, PYSEC-2021-2", "audited: 2 of 2", "1 with"]),
    "in_part": ([SOUND], 3, ["audited: 1 of 2 pinned versions"]),
    "no_answer": (None, 3, ["NOT audited", "about the 2 pinned versions: numpy: Dependency not found on PyPI"]),
}


@pytest.mark.parametrize("case", CASES)
def test_audit__says_how_it_ended(case: str, tmp_path: Path) -> None:
    """With a stand-in for pip-audit, as its database is on the network."""
    answer, status, said = CASES[case]
    (tmp_path / "pins.txt").write_text("# pins\nnumpy==2.0.0\npillow==8.0.0\n")
    stand_in = tmp_path / "pip_audit.py"
    stand_in.write_text(
        "import sys\nassert '--strict' in sys.argv\n"
        "sys.exit('WARNING:x: y\\nERROR:pip_audit._cli:numpy: Dependency not found on PyPI')\n"
        if answer is None
        else f"print({json.dumps({'dependencies': answer})!r})\n"
    )
    words = [sys.executable, str(AUDIT), str(tmp_path / "pins.txt"), sys.executable, str(stand_in)]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == status
    assert all(part in ran.stdout for part in said), ran.stdout
    assert ran.stderr == ""
