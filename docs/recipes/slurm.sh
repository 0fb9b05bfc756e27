#!/bin/bash
# One run over two nodes of four GPUs, one process a GPU; preempted and timed-out jobs go on where they stopped.
#
#   sbatch docs/recipes/slurm.sh --config experiments/quickstart.py:gru --workdir "$PWD/runs/gru"
#
# The workdir must be on a file system that all nodes see. Everything behind the file's name is handed to `seqjax train`,
# which finds the other processes through SLURM.
#SBATCH --job-name=seqjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Two minutes before the time is up, every process is asked to save and end.
#SBATCH --signal=TERM@120
set -uo pipefail

srun --kill-on-bad-exit=0 seqjax train "$@"
code=$?

# 75: saved on request; 128 and up: killed, or a peer was lost. All else is a mistake that a restart would repeat.
if [ "$code" -eq 75 ] || [ "$code" -ge 128 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
