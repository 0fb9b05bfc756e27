#!/bin/bash
# One config with many seeds: task i of a job array trains seed i in its own folder. Preempted and timed-out tasks go on
# where they stopped.
#
#   sbatch --array=0-4 docs/recipes/slurm_array.sh "$PWD/runs/gru" --config experiments/quickstart.py:gru
#   seqjax report runs/gru/seed-* --out runs/gru
#
# The folder comes first, on a file system that all nodes share. All other arguments are passed to `seqjax train`.
#SBATCH --job-name=seqjax
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Two minutes before the time limit, SIGTERM asks the run to save and end.
#SBATCH --signal=TERM@120
set -uo pipefail

folder=$1 seed=$SLURM_ARRAY_TASK_ID
shift
srun seqjax train "$@" --config.seed="$seed" --workdir "$folder/seed-$seed"
code=$?

# 75: saved on request; 128 and up: killed. A mistake (any other code) would only repeat.
if [ "$code" -eq 75 ] || [ "$code" -ge 128 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$seed"
fi
exit "$code"
