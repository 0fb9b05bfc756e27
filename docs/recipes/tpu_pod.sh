#!/bin/bash
# One run over all hosts of a TPU pod slice; hosts find each other through the TPU's metadata.
#
#   docs/recipes/tpu_pod.sh my-v5e-32 us-central1-a --config experiments/quickstart.py:gru --workdir /mnt/runs/gru
#
# All hosts need the same checkout with `pip install -e . 'jax[tpu]'` in ~/seqjax/.venv, and share the file system of
# the workdir. If the slice was preempted, create it again and run the same command: the run goes on.
set -euo pipefail

name=$1 zone=$2
shift 2
exec gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all \
  --command "cd seqjax && . .venv/bin/activate && seqjax supervise --restarts 100 -- seqjax train $(printf '%q ' "$@")"
