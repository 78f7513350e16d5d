#!/usr/bin/env bash
# Pre-training on the GPUs of one machine, or of several with a shared folder for store and run.
#
#   recipes/torchrun.sh paper STORE RUN [--train.batch 8 ...]                 all GPUs here
#   NODES=4 NODE=0 HEAD=first-host recipes/torchrun.sh paper STORE RUN        the same on each machine, NODE from 0 to 3
#
# The same command resumes. A rank that dies ends all of them with an error; RESTARTS=3 starts them again from the last
# checkpoint. Learning rate and data order go by the global batch: GPUS x NODES x train.batch x train.accumulate.
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
# Without the "--" below, torchrun takes --run for an option of its own. One thread per worker process: the reading processes are many already.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec python -m torch.distributed.run --nproc-per-node "$gpus" --nnodes "$nodes" --max-restarts "${RESTARTS:-0}" "${where[@]}" \
  -m -- maesil pretrain "$preset" --data.store "$store" --run "$run" \
  --efficiency.devices "$gpus" --efficiency.nodes "$nodes" "$@"
