#!/usr/bin/env bash
# Pre-trains on the GPUs of one machine, or of several machines that share the folders of store and run.
#
#   recipes/torchrun.sh paper STORE RUN [--train.batch 8 ...]                 all GPUs of this machine
#   NODES=4 NODE=0 HEAD=first-host recipes/torchrun.sh paper STORE RUN        on each of four machines, NODE 0 to 3
#
# The same command resumes. If a rank dies, all ranks stop with an error; RESTARTS=3 restarts them from the last checkpoint up
# to three times. Learning rate and data order depend on the global batch: GPUS x NODES x train.batch x train.accumulate.
set -euo pipefail
preset=${1:?preset, such as paper} store=${2:?store} run=${3:?run folder}
shift 3
gpus=${GPUS:-$(python -c 'import torch; print(max(1, torch.cuda.device_count()))')}
nodes=${NODES:-1}
if [ "$nodes" = 1 ]; then
  where=(--standalone)
else
  where=(--node-rank "${NODE:?NODE, this machine from 0}" --master-addr "${HEAD:?HEAD, the first host}" --master-port "${PORT:-29400}")
fi
# One thread per rank, for a node with as many ranks as cores. Without the "--" below, torchrun reads --run as its own option.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec python -m torch.distributed.run --nproc-per-node "$gpus" --nnodes "$nodes" --max-restarts "${RESTARTS:-0}" "${where[@]}" \
  -m -- maesil pretrain "$preset" --data.store "$store" --run "$run" \
  --efficiency.devices "$gpus" --efficiency.nodes "$nodes" "$@"
