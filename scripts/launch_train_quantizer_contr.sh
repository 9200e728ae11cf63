#!/usr/bin/env bash
# Stage 1: train the fMRI tokenizer with alignment to descriptors. Every variable may be set outside.
set -euo pipefail
source "$(dirname "$0")/launch.sh"

DATASET_DIR=${DATASET_DIR:?set DATASET_DIR to a cohort folder}

launch train tokenizer \
  --cfg_path "${CONFIG:-configs/vit_base_gpt2_p160.yaml}" --ckpt_dir "${OUTPUT:-runs/tokenizer}" \
  --dataset_dir "$DATASET_DIR" --quantizer "${QUANTIZER:-vq}" --desc_type "${DESC_TYPE:-fc,ica}" \
  --clip_loss_type "${CLIP_LOSS_TYPE:-siglip}" "$@"
