#!/bin/bash
# One run over two nodes of four GPUs, one process per GPU; preempted and timed-out jobs go on where they stopped.
#
#   sbatch docs/recipes/slurm.sh --config experiments/quickstart.py:gru --workdir "$PWD/runs/gru"
#
# The workdir must be on a file system that all nodes share. All arguments are passed to `seqjax train`, which finds the
# other processes through SLURM.
#SBATCH --job-name=seqjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
# Not --gpus-per-task: each process must see all GPUs of its node, because JAX takes the one with its local number.
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Two minutes before the time limit, SIGTERM asks every process to save and end.
#SBATCH --signal=TERM@120
set -uo pipefail

srun --kill-on-bad-exit=0 seqjax train "$@"
code=$?

# 75: saved on request; 128 and up: killed, or another process was lost. A mistake (any other code) would only repeat.
if [ "$code" -eq 75 ] || [ "$code" -ge 128 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
