#!/usr/bin/env bash
# Score a run beside baselines and controls; a cohort it never saw is asked in full.
# Every variable may be set outside; what else is given goes to `fmrilm evaluate`.
set -euo pipefail
source "$(dirname "$0")/launch.sh"

if [ -z "${RUN:-}" ]; then
  add --cfg_path "${CONFIG:-}" configs/vit_base_qwen_p160.yaml
  add --lm_name "${LM:-}" Qwen/Qwen3-0.6B
fi

NUM_PROCESSES=1 launch eval_zeroshot \
  --checkpoint "${RUN:-checkpoints/pretrain/VQ-ViT_base-p160-qwen0.6B/ckpt.pt}" \
  --output_dir "${OUTPUT:-results/zeroshot/}" \
  ${options[@]+"${options[@]}"} \
  --datasets "${DATASET_DIR:-UKB,ABCD,HCP}" --batch_size "${BATCH_SIZE:-32}" --use_allowed_tokens "$@"
