# Sourced by the other scripts: `launch train ...` runs fmrilm in NUM_PROCESSES processes.
NUM_PROCESSES=${NUM_PROCESSES:-1}
PYTHON=${PYTHON:-python}

launch() {
  if [ "$NUM_PROCESSES" -gt 1 ]; then
    "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$NUM_PROCESSES" -m fmrilm "$@"
  else
    "$PYTHON" -m fmrilm "$@"
  fi
}
