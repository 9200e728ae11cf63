#!/usr/bin/env bash
# Stage 3: instruction tuning. FEWSHOT limits the training scans per class. Without DATASET_DIR the
# cohorts of configs/dataset_config.yaml below data/ are used.
# Every variable may be set outside; what else is given goes to `fmrilm train instruct`.
set -euo pipefail
source "$(dirname "$0")/launch.sh"

[ -z "${DATASET_DIR:-}" ] || options+=(--dataset_dir "$DATASET_DIR")
[ -z "${FEWSHOT:-}" ] || options+=(--fewshot_samples "$FEWSHOT")
if [ -n "${ADD_DESC:-}" ]; then options+=(--add_desc "$ADD_DESC"); else options+=(--add_desc); fi

add --lm_name "${LM:-}" Qwen/Qwen3-0.6B
add --epochs "${EPOCHS:-}" 20
add --global_fmri_batch_size "${GLOBAL_BATCH_SIZE:-}" 64
add --gradient_accumulation_steps "${GRADIENT_ACCUMULATION_STEPS:-}" 8

launch train_instruction \
  --pretrained_ckpt "${PRETRAINED:-checkpoints/pretrain/VQ-ViT_base-p160-qwen0.6B/ckpt.pt}" \
  --ckpt_dir "${OUTPUT:-checkpoints/instruction/VQ-ViT_base-qwen0.6B-classification}" \
  --cfg_path "${CONFIG:-configs/vit_base_qwen_p160.yaml}" \
  --quantizer "${QUANTIZER:-vq}" \
  ${options[@]+"${options[@]}"} --add_src_info --use_random_prompt --use_allowed_tokens \
  --save_ckpt "$@"
