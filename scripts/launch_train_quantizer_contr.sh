#!/usr/bin/env bash
# Stage 1: train the fMRI tokenizer with alignment to descriptors. Every variable may be set outside.
set -euo pipefail

DATASET_DIR=${DATASET_DIR:?set DATASET_DIR to a cohort folder}
CONFIG=${CONFIG:-configs/vit_base_gpt2_p160.yaml}
OUTPUT=${OUTPUT:-runs/tokenizer}
NUM_PROCESSES=${NUM_PROCESSES:-1}

accelerate launch --num_processes "$NUM_PROCESSES" -m fmrilm train tokenizer \
  --cfg_path "$CONFIG" --ckpt_dir "$OUTPUT" --dataset_dir "$DATASET_DIR" \
  --quantizer "${QUANTIZER:-vq}" --desc_type "${DESC_TYPE:-fc,ica}" \
  --clip_loss_type "${CLIP_LOSS_TYPE:-siglip}" "$@"
