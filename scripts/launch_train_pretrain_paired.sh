#!/usr/bin/env bash
# Stage 2: the language model learns to read scans, on pairs of scan and description.
# Every variable may be set outside; what else is given goes to `fmrilm train align`.
set -euo pipefail
source "$(dirname "$0")/launch.sh"

add --lm_name "${LM:-}" Qwen/Qwen3-0.6B
add --epochs "${EPOCHS:-}" 50
add --fmri_batch_size "${BATCH_SIZE:-}" 16

launch train_pretrain_paired \
  --tokenizer_path "${TOKENIZER:-checkpoints/tokenizer/VQ_Align-ViT_base-p160/ckpt.pt}" \
  --ckpt_dir "${OUTPUT:-checkpoints/pretrain/VQ-ViT_base-p160-qwen0.6B}" \
  --cfg_path "${CONFIG:-configs/vit_base_qwen_p160.yaml}" \
  --dataset_dir "${DATASET_DIR:-data/UKB/fmri/TianS3/,data/ABCD/fmri/TianS3/}" \
  --quantizer "${QUANTIZER:-vq}" --desc_type "${DESC_TYPE:-fc,ica}" \
  ${options[@]+"${options[@]}"} \
  --text_only_weight "${TEXT_ONLY_WEIGHT:-1.0}" --fmri_only_weight "${FMRI_ONLY_WEIGHT:-0.5}" \
  --gradient_accumulation_steps "${GRADIENT_ACCUMULATION_STEPS:-1}" --save_ckpt "$@"
