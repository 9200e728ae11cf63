# Sourced by the other scripts: `launch train_x ...` runs train_x.py in NUM_PROCESSES processes.
NUM_PROCESSES=${NUM_PROCESSES:-1}
PYTHON=${PYTHON:-python}
ROOT="$(dirname "${BASH_SOURCE[0]}")/.."

launch() {
  local script="$ROOT/$1.py"
  shift
  if [ "$NUM_PROCESSES" -gt 1 ]; then
    "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$NUM_PROCESSES" "$script" "$@"
  else
    "$PYTHON" "$script" "$@"
  fi
}

# add FLAG VALUE DEFAULT: put FLAG into `options`, with the printed default unless a CONFIG is given,
# whose values then hold.
options=()
add() {
  if [ -n "$2" ]; then
    options+=("$1" "$2")
  elif [ -z "${CONFIG:-}" ]; then
    options+=("$1" "$3")
  fi
}
