#!/usr/bin/env bash
# Runs the benchmarks and ten minutes of pre-training on a machine with a GPU. Needs no network.
#
#   recipes/gpu.sh STORE [--smoke]                all parts, with the python on PATH
#   WHEELS=wheels recipes/gpu.sh STORE            installs missing packages from a folder of wheels
#   PARTS="step data" recipes/gpu.sh STORE        only some of the parts step, data, pretrain
#
# STORE is a store that `maesil prepare` wrote. The script writes results/bench/$NAME-*.json (NAME is gpu by default) and
# leaves the run in $RUN (runs/gpu by default). With WHEELS, it creates a virtual environment in .venv-gpu that sees the
# machine's packages and adds only missing ones; it never replaces torch and the packages that belong to torch. A part that
# fails does not stop the others; the last lines list the failed parts.
# --smoke tests everything in a few minutes on a CPU with a tiny network; its measurements mean nothing.
set -uo pipefail
cd "$(dirname "$0")/.."
store=${1:?"a store, as: recipes/gpu.sh STORE [--smoke]"}
smoke=${2:-}
name=${NAME:-gpu} run=${RUN:-runs/gpu} parts=${PARTS:-step data pretrain} out=${OUT:-results/bench}
python=${PYTHON:-python3}

if [ -n "${WHEELS:-}" ]; then
  [ -x .venv-gpu/bin/python ] || "$python" -m venv --system-site-packages .venv-gpu || exit 1
  python=.venv-gpu/bin/python
  for wheel in "$WHEELS"/*.whl; do
    package=$(basename "$wheel" | cut -d- -f1)
    case $package in torch | torchvision | torchaudio | triton | pytorch_triton | nvidia_* | maesil) continue ;; esac
    "$python" -c "import importlib.metadata as m; m.version('$package')" 2> /dev/null && continue
    "$python" -m pip install --quiet --no-index --no-deps --find-links "$WHEELS" "$wheel" || echo "not installed: $wheel"
  done
fi
export PYTHONPATH="$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}"

device=cuda geometry=(--preset paper) batches=1,2,4,8,16,32,64,128 rounds=5 pretrain=(paper) minutes=10
if [ "$smoke" = --smoke ]; then
  device=cpu geometry=(--size tiny) batches=1,2 rounds=1 minutes=0.5
  pretrain=(demo --train.batch 2 --data.holdout.by patient --data.padded-crops)
fi

failed=()
part() { # NAME COMMAND...
  echo "== $1"
  "${@:2}" || failed+=("$1")
}

timed() { # interrupts the command after $minutes minutes; a run then saves a checkpoint and counts as successful
  local seconds
  seconds=$(awk "BEGIN { print int(60 * $minutes) }")
  timeout --signal INT "$seconds" "$@"
  local code=$?
  [ $code = 124 ] && [ -d "$run/checkpoints/last" ] && return 0
  return $code
}

pretraining() { # trains, then writes a summary of the log
  timed "$python" -m maesil pretrain "${pretrain[@]}" --data.store "$store" --run "$run" || return
  "$python" - "$run/logs/metrics.csv" "$out/$name-pretrain.json" << 'EOF'
import csv, json, statistics, sys
from benchmarks.harness import commit, machine
import torch
rows = list(csv.DictReader(open(sys.argv[1])))
def of(key):
    return [float(row[key]) for row in rows if row.get(key)]
rates = of("superpatches_per_s")
record = {
    "name": "pretrain", "commit": commit(), "machine": machine(), "steps": max(of("step")),
    "superpatches_per_s": {"median": statistics.median(rates), "first": rates[0], "last": rates[-1]},
    "loss": {"first": of("loss")[0], "last": of("loss")[-1]},
    "val_psnr_masked": of("val_psnr_masked"), "peak_gib": max(of("memory_gib"), default=None),
}
open(sys.argv[2], "w").write(json.dumps(record, indent=1) + "\n")
EOF
}

bench() { "$python" -m benchmarks "$@" --out "$out"; }

for what in $parts; do
  case $what in
    step)
      part "step: race, FLOPs" bench step "${geometry[@]}" --device "$device" --parts race,flops --rounds "$rounds" --name "$name-step"
      part "step: batches" bench step "${geometry[@]}" --device "$device" --parts batches --batches "$batches" --rounds "$rounds" --name "$name-batches"
      part "step: profile" bench step "${geometry[@]}" --device "$device" --parts profile --name "$name-profile"
      ;;
    data)
      part data bench data --parts "${DATA_PARTS:-superpatch,loader}" --rounds "$rounds" --name "$name-data"
      ;;
    pretrain)
      part "pretrain, $minutes minutes" pretraining
      ;;
    *)
      echo "unknown part: $what"
      failed+=("$what")
      ;;
  esac
done

echo "== written"
ls "$out/$name"-*.json 2> /dev/null
if [ ${#failed[@]} -gt 0 ]; then
  printf 'failed: %s\n' "${failed[@]}"
  exit 1
fi
