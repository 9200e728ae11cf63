#!/usr/bin/env bash
# Stage 3: instruction tuning. FEWSHOT limits the training scans per class.
# Every variable may be set outside; what else is given goes to `fmrilm train instruct`.
set -euo pipefail
source "$(dirname "$0")/launch.sh"

DATASET_DIR=${DATASET_DIR:?set DATASET_DIR to a cohort folder, or to several: a,b}
PRETRAINED=${PRETRAINED:?set PRETRAINED to a run of stage 2 (or 1)}

options=()
[ -z "${FEWSHOT:-}" ] || options+=(--fewshot_samples "$FEWSHOT")
[ -z "${ADD_DESC:-}" ] || options+=(--add_desc "$ADD_DESC")

launch train instruct \
  --cfg_path "${CONFIG:-configs/vit_base_qwen_p160.yaml}" --ckpt_dir "${OUTPUT:-runs/instruct}" \
  --pretrained_ckpt "$PRETRAINED" --dataset_dir "$DATASET_DIR" \
  --gradient_accumulation_steps "${GRADIENT_ACCUMULATION_STEPS:-1}" \
  --add_src_info --use_random_prompt --use_allowed_tokens --save_ckpt \
  ${options[@]+"${options[@]}"} "$@"
