#!/usr/bin/env bash
# Builds wheel and sdist into dist/, and tries each in an environment of its own, outside of the checkout and without a
# network: `maesil --help`, the files of the package, a vector of a scan by the published weights, and the demo on synthetic
# CT. Call it from the checkout, as `make dist` does.
#
#   PYTHONS="python3.11 python3.12"   the interpreters to try; those that do not run are skipped, and named
#   LOWEST=1                          also try the lowest versions that pyproject.toml allows (torch stays pinned)
#   TRIES="wheel sdist"               what to try
#   SHORT=1                           the same path with three small scans in place of the demo, on a slow machine
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
tries=${TRIES:-wheel sdist}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rm -rf "$root/dist"
"$python" -m venv "$work/build"
"$work/build/bin/pip" install --quiet --disable-pip-version-check build twine
"$work/build/bin/python" -m build --outdir "$root/dist" "$root"
"$work/build/bin/twine" check --strict "$root"/dist/*
wheel=$(ls "$root"/dist/*.whl)
git -C "$root" ls-files src/maesil > "$work/files.txt"

# alone COMMAND...: runs a command with an empty cache, and with a proxy that refuses all connections.
alone() {
  env http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9 no_proxy= HF_HUB_OFFLINE=1 \
    XDG_CACHE_HOME="$work/cache" PYTHONPATH= "$@"
}

# path BIN NAME: from scans to a page, with the maesil that is installed in BIN.
path() {
  if [ -z "${SHORT:-}" ]; then
    alone "$1/maesil" demo --phantom --steps 2 --out "$work/demo-$2"
    return
  fi
  alone "$1/maesil" prepare "$work/scans" --out "$work/store-$2" --spacing-mm 4
  alone "$1/maesil" pretrain demo --data.store "$work/store-$2" --run "$work/run-$2" --train.steps 2 --train.batch 2 \
    --data.holdout.by patient --data.padded-crops
  alone "$1/maesil" evaluate "$work/run-$2" --protocol.lpips None --protocol.mask-draws 1
  alone "$1/maesil" report "$work/run-$2"
}

# try NAME PYTHON CONSTRAINTS PACKAGE: installs a package into a new environment, and uses it there.
try() {
  local bin="$work/$1/bin"
  "$2" -m venv "$work/$1"
  "$bin/pip" install --quiet --disable-pip-version-check --constraint "$3" torch
  "$bin/pip" install --quiet --disable-pip-version-check --constraint "$3" "$4"
  (
    cd "$work"
    alone "$bin/maesil" --help > /dev/null
    alone "$bin/python" "$root/recipes/try_installed.py" "$work/files.txt" "$work/scans"
    path "$bin" "$1"
  )
  rm -rf "${work:?}/$1"
  echo "passed: $1"
}

for one in $tries; do
  case $one in
    wheel)
      for interpreter in ${PYTHONS:-python3.11 python3.12 python3.13}; do
        if "$interpreter" -c "" 2> /dev/null; then
          try "wheel-$(basename "$interpreter")" "$interpreter" "$root/constraints.txt" "$wheel"
        else
          echo "skipped: $interpreter does not run"
        fi
      done ;;
    sdist) try sdist "$python" "$root/constraints.txt" "$(ls "$root"/dist/*.tar.gz)" ;;
    *) echo "there is no '$one' to try; there are: wheel, sdist" >&2; exit 2 ;;
  esac
done

if [ -n "${LOWEST:-}" ]; then
  "$python" - "$root" > "$work/lowest.txt" <<'PY'
import re, sys, tomllib
from pathlib import Path

root = Path(sys.argv[1])
pinned = {line.split("==")[0]: line for line in (root / "constraints.txt").read_text().splitlines() if "==" in line}
for needed in tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]:
    name, lowest = re.match(r"([\w.-]+).*?>=([\w.]+)", needed).groups()
    print(pinned["torch"] if name == "torch" else f"{name}=={lowest}")
PY
  try lowest "$python" "$work/lowest.txt" "$wheel"
fi
