#!/usr/bin/env bash
# Pre-trains under SLURM with one task per GPU; Lightning detects SLURM by itself.
#
#   sbatch --nodes 4 --gpus-per-node 8 --ntasks-per-node 8 recipes/slurm.sh paper STORE RUN [--train.batch 8 ...]
#
# SLURM sends SIGTERM before the time limit, and the run saves a checkpoint and stops. Submit the same line to resume.
#SBATCH --job-name=maesil
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --signal=SIGTERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
preset=${1:?preset, such as paper} store=${2:?store} run=${3:?run folder}
shift 3
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# If a rank dies, srun stops the others, which would otherwise wait at the next all-reduce.
exec srun --kill-on-bad-exit=1 python -m maesil pretrain "$preset" --data.store "$store" --run "$run" \
  --efficiency.devices "${SLURM_NTASKS_PER_NODE:-1}" --efficiency.nodes "${SLURM_NNODES:-1}" "$@"
