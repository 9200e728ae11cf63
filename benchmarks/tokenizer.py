"""What tokenizers keep of a scan, whether scans find their descriptions, and what training costs.

    OMP_NUM_THREADS=1 python benchmarks/tokenizer.py reconstruction
    OMP_NUM_THREADS=1 python benchmarks/tokenizer.py retrieval
    OMP_NUM_THREADS=2 python benchmarks/tokenizer.py speed [160 32]

`reconstruction`: VQ and FSQ at patch 32 beside PCA of equal bits, on test subjects of a SYNTHETIC
cohort (130 people, 450 regions x 160 volumes) and of the pain cohort (whole runs, 122 regions x
160; needs the package connattractor). `retrieval`: alignment with descriptions on a SYNTHETIC
cohort of 430 people. Settings were chosen on validation subjects; test ones are read once.

`speed`: ViT-Base at 450 regions x 160 volumes, float32, VQ with 8192 codes, against the obvious
way, which is written here: attention as explicit softmax over all pairs of tokens under a mask, the
full matrix of distances to the codes, codebook statistics through one-hot vectors, a new tensor for
every operation, AdamW parameter by parameter (ours is fused, as in training). Both have the same
weights and losses (reconstruction and commitment), and no dropped paths. Every row is a process of
its own; "more" is its peak of memory less the weights, gradients and optimizer state, which both
have.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SMALL = {
    "patch_size": 32, "enc_cls": "vit_tiny", "n_embd": 64, "n_layer": 1, "n_head": 2,
    "codebook_size": 512, "code_dim": 32, "fsq_levels": "[2,2,2,2,2,2,2,2,2]",
    "roi_profile": "false", "drop_path": 0.0,
}  # fmt: skip
ALIGNED = {"enc_cls": "vit_tiny", "codebook_size": 512, "code_dim": 32, "drop_path": 0.0}
TRAIN = {"batch_size": 4, "lr": 1e-3, "save_ckpt": "false"}
EPOCHS = {"UKB": 2, "regulate": 6}
BATCH, REPEATS = {160: 2, 32: 1}, {160: 3, 32: 1}  # of the speed part, by patch size
# What each way computes again in the backward pass.
WAYS = {"ours": "none", "ours, cheap": "cheap", "ours, all": "all", "obvious": ""}
ROIS, POINTS, CODES = 450, 160, 8192
LOOKUPS = (2250, 7200)  # tokens: one scan at patch 32, a batch of 16 at patch 160


def pairs(section: str, values: dict) -> list[str]:
    """Return ``section.key=value`` pairs."""
    return [f"{section}.{name}={value}" for name, value in values.items()]


# What is kept, what is found ----------------------------------------------------------------------


def reconstruction(folder: Path) -> None:
    """Train both quantizers on both cohorts, print what comes back of the test scans."""
    from fmrilm.cohort.cohort import Cohort
    from fmrilm.datasets.heat_pain import demo_data
    from fmrilm.datasets.synthetic.cohort import simulate
    from fmrilm.evaluation.evaluate import evaluate
    from fmrilm.training.build import train_stage

    cohorts = [simulate(str(folder / "UKB"), cohort="UKB", subjects=130, seed=0)]
    cohorts += [path for path in demo_data(str(folder / "pain")) if path.name == "regulate"]
    for cohort in cohorts:
        shape = {"num_rois": Cohort(cohort).store.n_rois, "num_timestamp": POINTS}
        for quantizer in ("vq", "fsq"):
            options = [f"data.dataset_dir=[{cohort}]", "tokenizer.clip_weight=0"]
            options += pairs("model.vq_model", SMALL | shape | {"quantizer": quantizer})
            options += pairs("train", TRAIN | {"epochs": EPOCHS[cohort.name]})
            started = time.perf_counter()
            output = folder / f"{cohort.name}-{quantizer}"
            run = train_stage("tokenizer", options, output=output, overwrite=True)
            seconds = time.perf_counter() - started
            print(f"\n{quantizer} on {cohort.name}, trained in {seconds:.0f} s", flush=True)
            evaluate([str(run)], split="test")


def retrieval(folder: Path) -> None:
    """Train tokenizers with alignment, print how well test scans find their descriptions."""
    from fmrilm.datasets.synthetic.cohort import simulate
    from fmrilm.description.describe import describe
    from fmrilm.evaluation.evaluate import evaluate
    from fmrilm.training.build import train_stage

    cohort = simulate(str(folder / "UKB"), cohort="UKB", subjects=430, seed=0)
    describe(cohort, types="fc")
    for tower, pooling in (("ngrams", "regions"), ("lm", "mean")):
        options = [f"data.dataset_dir=[{cohort}]", "model.lm.base_model=tiny"]
        options += pairs("model.vq_model", ALIGNED)
        options += pairs("tokenizer", {"text_tower": tower, "pooling": pooling})
        options += pairs("train", TRAIN | {"batch_size": 32, "epochs": 8, "weight_decay": 0.1})
        started = time.perf_counter()
        output = folder / f"{tower}-{pooling}"
        run = train_stage("tokenizer", options, output=output, overwrite=True)
        seconds = time.perf_counter() - started
        print(f"\ntext {tower}, pooling {pooling}, trained in {seconds:.0f} s", flush=True)
        evaluate([str(run)], split="test")


# Speed: the obvious way ---------------------------------------------------------------------------


def build_obvious(patch_size: int):
    """Return a tokenizer of the same size, written without care for time and memory."""
    import torch
    from torch import nn

    from fmrilm.tokenizer.encoder import from_patches, to_patches

    class Block(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x, seen):
            y = self.norm1(x)
            q, k, v = (f(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
                       for f in (self.q, self.k, self.v))  # fmt: skip
            scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
            weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
            x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
            return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))

    class Obvious(nn.Module):
        def __init__(self, width: int = 768, depth: int = 12, heads: int = 12) -> None:
            super().__init__()
            steps = POINTS // patch_size
            self.patch_embed = nn.Linear(patch_size, width)
            self.place = nn.Parameter(torch.randn(2, ROIS * steps, width) * 0.02)
            self.encoder = nn.ModuleList(Block(width, heads) for _ in range(depth))
            self.decoder = nn.ModuleList(Block(width, heads) for _ in range(depth // 3))
            self.project_in, self.project_out = nn.Linear(width, 128), nn.Linear(128, width)
            self.head = nn.Linear(width, patch_size)
            self.register_buffer("codebook", nn.functional.normalize(torch.randn(CODES, 128)))
            self.register_buffer("count", torch.ones(CODES))
            self.register_buffer("total", self.codebook.clone())
            step = torch.arange(steps).repeat_interleave(ROIS)
            self.register_buffer("seen", step[:, None] >= step[None, :])

        def encode(self, fmri):
            x = self.patch_embed(to_patches(fmri, patch_size)) + self.place[0]
            for block in self.encoder:
                x = block(x, self.seen)
            return x

        def forward(self, fmri):
            z = nn.functional.normalize(self.project_in(self.encode(fmri)), dim=-1)
            codes = obvious_codes(z.flatten(0, 1), self.codebook, self.count, self.total)
            codes = codes.view_as(z)
            commitment = (z - codes).square().sum(-1).mean() / 2
            x = self.project_out(z + (codes - z).detach()) + self.place[1]
            for block in self.decoder:
                x = block(x, self.seen)
            series = from_patches(self.head(x), ROIS)
            return (series - fmri).square().mean() + commitment

    return Obvious()


def obvious_codes(z, codebook, count, total):
    """Return the nearest codes of vectors (n, d); the codebook follows by moving averages."""
    import torch
    from torch.nn import functional as F

    with torch.no_grad():
        distance = z.square().sum(1, keepdim=True) - 2 * z @ codebook.T + codebook.square().sum(1)
        one_hot = F.one_hot(distance.argmin(1), CODES).to(z.dtype)
        codes = one_hot @ codebook
        count.mul_(0.99).add_(one_hot.sum(0), alpha=0.01)
        total.mul_(0.99).add_(one_hot.T @ z, alpha=0.01)
        codebook.copy_(F.normalize(total, dim=1))
        return codes


def build_ours(patch_size: int, recompute: str):
    """Return stage 1's objective: reconstruction and commitment."""
    from fmrilm.config.schema import TokenizerConfig, TokenizerStageConfig
    from fmrilm.tokenizer.tokenizer import FMRITokenizer
    from fmrilm.training.stages.tokenizer import TokenizerObjective

    config = TokenizerConfig(
        patch_size=patch_size,
        drop_path=0.0,
        roi_profile=False,
        data_start=False,
        recompute=recompute,
    )
    return TokenizerObjective(
        FMRITokenizer(config), TokenizerStageConfig(clip_weight=0.0, profile_weight=0.0)
    )


# Speed: measuring ---------------------------------------------------------------------------------


def matmul_peak() -> float:
    """Return GFLOP/s of a large matrix product, the best of several."""
    import torch

    a, b = torch.randn(3072, 3072), torch.randn(3072, 3072)
    return 2 * 3072**3 / best(lambda: a @ b, 6) / 1e9


def best(work, repeats: int) -> float:
    """Return the shortest of several times in seconds."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def forward_flops(patch_size: int, depth: int, width: int = 768) -> float:
    """Return the floating-point operations of matrix products in ``depth`` blocks, per scan."""
    steps = POINTS // patch_size
    tokens = ROIS * steps
    pairs_seen = ROIS**2 * steps * (steps + 1) / 2  # later steps are not seen
    return depth * (24 * tokens * width**2 + 4 * pairs_seen * width)


def step_flops(patch_size: int, width: int = 768) -> float:
    """Return the operations of a training step per scan: forward, and twice that backward."""
    tokens = ROIS * POINTS // patch_size
    around = 2 * tokens * (2 * patch_size * width + width**2 + 2 * width * 128)
    return 3 * (forward_flops(patch_size, 16) + around) + 2 * tokens * CODES * 128


def measure(way: str, patch_size: int) -> dict[str, float]:
    """Return seconds of a step and of the encoder alone, memory in GB, and the matmul peak."""
    import torch

    torch.manual_seed(0)
    fmri = torch.randn(BATCH[patch_size], ROIS, POINTS)
    batch = {"fmri": fmri, "roi_mask": torch.ones(len(fmri), ROIS, dtype=torch.bool)}
    is_ours = way != "obvious"
    model = build_ours(patch_size, WAYS[way]) if is_ours else build_obvious(patch_size)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=is_ours or None)

    def step():
        loss = model(batch)["loss"] if is_ours else model(fmri)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    held = 16 * sum(p.numel() for p in model.parameters()) / 2**30
    seconds = best(step, REPEATS[patch_size])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    encoder = model.tokenizer if is_ours else model
    with torch.no_grad():
        forward = best(lambda: encoder.eval().encode(fmri), 2 * REPEATS[patch_size])
    return {"seconds": seconds, "forward": forward, "peak": peak, "more": peak - held,
            "matmul": matmul_peak()}  # fmt: skip


def measure_lookup(way: str, tokens: int) -> dict[str, float]:
    """Return the seconds of finding the codes of so many vectors and updating the codebook."""
    import torch
    from torch.nn import functional as F

    from fmrilm.tokenizer.quantizers import VectorQuantizer

    torch.manual_seed(0)
    z = F.normalize(torch.randn(tokens, 128), dim=1)
    quantizer = VectorQuantizer(128, CODES).train()
    codebook, count, total = quantizer.codebook, quantizer.ema_count, quantizer.ema_sum

    def ours():
        return quantizer.assign(z)

    def obvious():
        return obvious_codes(z, codebook, count, total)

    return {"seconds": best(ours if way == "ours" else obvious, 5)}


def in_own_process(*words: object) -> dict[str, float]:
    """Return what a measurement in a fresh process found."""
    command = [sys.executable, __file__, "--measure", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def speed(patch_sizes: list[int]) -> None:
    """Print shares of the matmul peak, and ratios to the obvious way."""
    for patch_size in patch_sizes:
        tokens, size = ROIS * POINTS // patch_size, BATCH[patch_size]
        print(f"patch {patch_size}, {size} x {tokens} tokens: seconds and GFLOP/s (share of the "
              "matmul peak) of a step and of the encoder; GB (more)")  # fmt: skip
        found = {}
        for way in WAYS:
            one = found[way] = in_own_process(way, patch_size)
            forward = size * forward_flops(patch_size, 12) / one["forward"] / 1e9
            step = size * step_flops(patch_size) / one["seconds"] / 1e9
            print(f"{way:12} {one['seconds']:6.2f} {step:4.0f} ({step / one['matmul']:.0%})  "
                  f"{one['forward']:6.2f} {forward:4.0f} ({forward / one['matmul']:.0%} of "
                  f"{one['matmul']:.0f})  {one['peak']:5.2f} ({one['more']:.2f})",
                  flush=True)  # fmt: skip
        other = found.pop("obvious")
        for way, one in found.items():
            print(f"{way:12} {other['seconds'] / one['seconds']:.2f} times as fast as the obvious "
                  f"way, memory {one['peak'] / other['peak']:.2f} of it "
                  f"({one['more'] / other['more']:.2f})", flush=True)  # fmt: skip
    for tokens in LOOKUPS:
        ours, other = (in_own_process("lookup", w, tokens)["seconds"] for w in ("ours", "obvious"))
        print(f"{tokens} tokens: codes and codebook update {1000 * ours:.0f} ms, the obvious way "
              f"{1000 * other:.0f} ms: {other / ours:.1f} times as fast", flush=True)  # fmt: skip


if __name__ == "__main__":
    part, *words = sys.argv[1:] or ["reconstruction"]
    if part == "--measure" and words[0] == "lookup":
        print(json.dumps(measure_lookup(words[1], int(words[2]))))
    elif part == "--measure":
        print(json.dumps(measure(words[0], int(words[1]))))
    elif part == "speed":
        speed([int(word) for word in words] or [160, 32])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            {"reconstruction": reconstruction, "retrieval": retrieval}[part](Path(temporary))
