#!/usr/bin/env bash
# Stage 2 in several processes with DeepSpeed ZeRO (pip install 'fmrilm[deepspeed]'). Afterwards
# merge_deepspeed_checkpoint.py (or `fmrilm merge RUN -o FOLDER --checkpoint`) makes one folder of
# the shards.
set -euo pipefail

export NUM_PROCESSES=${NUM_PROCESSES:-2}
exec "$(dirname "$0")/launch_train_pretrain_paired.sh" \
  --deepspeed "${DEEPSPEED:-configs/deepspeed_zero2.json}" "$@"
