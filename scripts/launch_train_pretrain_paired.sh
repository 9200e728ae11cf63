#!/usr/bin/env bash
# Stage 2: the language model learns to read scans, on pairs of scan and description.
# Every variable may be set outside; what else is given goes to `fmrilm train align`.
set -euo pipefail
source "$(dirname "$0")/launch.sh"

DATASET_DIR=${DATASET_DIR:?set DATASET_DIR to a cohort folder}
TOKENIZER=${TOKENIZER:?set TOKENIZER to a run of stage 1}

launch train align \
  --cfg_path "${CONFIG:-configs/vit_base_qwen_p160.yaml}" --ckpt_dir "${OUTPUT:-runs/align}" \
  --tokenizer_path "$TOKENIZER" --dataset_dir "$DATASET_DIR" --desc_type "${DESC_TYPE:-fc,ica}" \
  --text_only_weight "${TEXT_ONLY_WEIGHT:-0.1}" --fmri_only_weight "${FMRI_ONLY_WEIGHT:-0.1}" \
  --fmri2text_weight "${FMRI2TEXT_WEIGHT:-1.0}" \
  --gradient_accumulation_steps "${GRADIENT_ACCUMULATION_STEPS:-1}" --save_ckpt "$@"
