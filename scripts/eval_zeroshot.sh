#!/usr/bin/env bash
# Score a run on cohorts it never saw, beside baselines and controls.
# What else is given goes to `fmrilm evaluate`.
set -euo pipefail

RUN=${RUN:?set RUN to a run of stage 3 (or 2)}
DATASET_DIR=${DATASET_DIR:?set DATASET_DIR to a cohort folder, or to several: a,b}

"${PYTHON:-python}" -m fmrilm evaluate "$RUN" --datasets "$DATASET_DIR" \
  --output "${OUTPUT:-$RUN/zeroshot}" "$@"
