#!/usr/bin/env bash
# Builds wheel and sdist into dist/, and tries each in an environment of its own: installation, `maesil --help`, and the
# demo on synthetic CT. Call it from the checkout, as `make dist` does.
#
#   PYTHONS="python3.11 python3.12"   the interpreters to try; those that are missing are skipped, and named
#   LOWEST=1                          also try the lowest versions that pyproject.toml allows (torch stays pinned)
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rm -rf "$root/dist"
"${PYTHON:-python3}" -m venv "$work/build"
"$work/build/bin/pip" install --quiet --disable-pip-version-check build twine
"$work/build/bin/python" -m build --outdir "$root/dist" "$root"
"$work/build/bin/twine" check --strict "$root"/dist/*

# try NAME PYTHON CONSTRAINTS PACKAGE: installs a package into a new environment, and runs the demo there.
try() {
  local bin="$work/$1/bin"
  "$2" -m venv "$work/$1"
  "$bin/pip" install --quiet --disable-pip-version-check --constraint "$3" torch
  "$bin/pip" install --quiet --disable-pip-version-check --constraint "$3" "$4"
  (cd "$work" && "$bin/maesil" --help > /dev/null && "$bin/maesil" demo --phantom --steps 2 --out "$work/demo-$1")
  rm -rf "${work:?}/$1"
  echo "passed: $1"
}

for python in ${PYTHONS:-python3.11 python3.12 python3.13}; do
  if command -v "$python" > /dev/null; then
    try "wheel-$python" "$python" "$root/constraints.txt" "$(ls "$root"/dist/*.whl)"
  else
    echo "skipped: $python is not installed"
  fi
done
try sdist "${PYTHON:-python3}" "$root/constraints.txt" "$(ls "$root"/dist/*.tar.gz)"

if [ -n "${LOWEST:-}" ]; then
  "${PYTHON:-python3}" - "$root" > "$work/lowest.txt" <<'PY'
import re, sys, tomllib
from pathlib import Path

root = Path(sys.argv[1])
pinned = {line.split("==")[0]: line for line in (root / "constraints.txt").read_text().splitlines() if "==" in line}
for needed in tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]:
    name, lowest = re.match(r"([\w.-]+).*?>=([\w.]+)", needed).groups()
    print(pinned["torch"] if name == "torch" else f"{name}=={lowest}")
PY
  try lowest "${PYTHON:-python3}" "$work/lowest.txt" "$(ls "$root"/dist/*.whl)"
fi
