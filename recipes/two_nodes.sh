#!/bin/sh
# A recipe on two machines of eight GPUs each. Run this on both, with the same FIRST:
#
#     FIRST=node-1.example sh recipes/two_nodes.sh recipes/full_base_256.toml
#
# Under Slurm: srun --nodes 2 --ntasks-per-node 1 --gpus-per-node 8 sh recipes/two_nodes.sh RECIPE
# with FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1).
#
# Checkpoints are written by all processes into the recipe's folder, which must be one that all
# machines see. --resume makes the same line, run again, go on; with other numbers of machines too.
#
# The weights are shared out over all sixteen GPUs; where the network between the machines is slower
# than that inside of them, add --set run.replicas=2, a copy for each.
#
# On SIGTERM a run finishes its step and writes a checkpoint, for which torchrun gives it GRACE
# seconds, 600 here and 30 by itself. Slurm gives as many with --signal=TERM@600.
set -eu
exec torchrun \
    --nnodes "${NODES:-2}" --nproc-per-node "${GPUS:-8}" \
    --rdzv-backend c10d --rdzv-endpoint "${FIRST:?the name of one of the machines}:29400" \
    --rdzv-id "${RUN:-relay}" --shutdown-timeout "${GRACE:-600}" \
    --no-python relay train "$@" --resume
