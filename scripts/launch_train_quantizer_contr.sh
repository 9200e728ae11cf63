#!/usr/bin/env bash
# Stage 1: train the fMRI tokenizer with alignment to descriptors. Every variable may be set outside;
# what else is given goes to `fmrilm train tokenizer`.
set -euo pipefail
source "$(dirname "$0")/launch.sh"

add --epochs "${EPOCHS:-}" 50
add --batch_size "${BATCH_SIZE:-}" 16

launch train_quantizer_contr \
  --dataset_dir "${DATASET_DIR:-data/UKB/fmri/TianS3/,data/ABCD/fmri/TianS3/}" \
  --ckpt_dir "${OUTPUT:-checkpoints/tokenizer/VQ_Align-ViT_base-p160}" \
  --cfg_path "${CONFIG:-configs/vit_base_qwen_p160.yaml}" \
  --quantizer "${QUANTIZER:-vq}" --desc_type "${DESC_TYPE:-fc,ica}" \
  --clip_loss_type "${CLIP_LOSS_TYPE:-siglip}" \
  ${options[@]+"${options[@]}"} --save_ckpt "$@"
