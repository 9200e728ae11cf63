"""Damage inputs at random and see that nothing worse than a sentence comes of it.

``python -m tests.fuzz.run --n 1000 --seed 7`` prints the counts and every fault.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz import commands, damage, images, settings, stores, tables, weights
from fuzz.damage import ANY, REFUSE, SAY, pick
from fuzz.world import World, build

SECONDS = 60  # a command on inputs this small that takes longer hangs
MEMORY = 12 * 2**30  # bytes of address space beyond which an input is a bomb
RESUME = ["train", "instruct", "-o", "ROOT/runs/inst", "--resume", "train.epochs=2"]
RESUME_TOK = ["train", "tokenizer", "-o", "ROOT/runs/tok", "--resume", "train.epochs=2"]
PLAIN = ["evaluate", "ROOT/runs/inst", "-o", "ROOT/out", *commands.PLAIN]
STUDY = [
    "prepare", "ROOT/study", "-o", "ROOT/out", "atlas=ROOT/scans/atlas.tsv",
    "atlas_image=ROOT/scans/labels.nii.gz", "n_timepoints=20",
]  # fmt: skip
INSTRUCT = ["train", "instruct", "-o", "ROOT/out", "--init", "ROOT/runs/align",
            "data.dataset_dir=[ROOT/cohort]", "train.epochs=1"]  # fmt: skip
ALIGN = ["train", "align", "-o", "ROOT/out", "--init", "ROOT/runs/tok", "data.dataset_dir=[ROOT/cohort]",
         "train.epochs=1"]  # fmt: skip
DOCTOR = ["doctor", "ROOT/cohort", "--n_timepoints", "20"]
DESCRIBE = ["describe", "ROOT/cohort", "--jobs", "1", "--gallery", "0", "--refresh"]
TELL = ["evaluate", "ROOT/runs/align", "-o", "ROOT/out", "--tasks", "describe", *commands.PLAIN]
REPORT = ["report", "ROOT/runs/inst", "-o", "ROOT/out.html"]
METHODS = ["methods", "ROOT/runs/inst", "--output", "ROOT/methods.md"]
MERGE = ["merge", "ROOT/runs/inst", "-o", "ROOT/out", "--checkpoint"]
AUDIT = ["audit", "ROOT/cohort"]
AUDIT_RUN = ["audit", "ROOT/cohort", "--run", "ROOT/runs/inst"]
EMBED = ["embed", "ROOT/runs/tok", "ROOT/cohort", "-o", "ROOT/out.npy"]
PACK, FOLDS = ["pack", "ROOT/cohort"], ["folds", "ROOT/cohort"]


def scan(name: str) -> list[list[str]]:
    """Return the commands that read one scan."""
    labels = "labels.dlabel.nii" if "dtseries" in name else "labels.nii.gz"
    return [["doctor", f"ROOT/scans/{name}", "--atlas", "ROOT/scans/atlas.tsv",
             "--atlas_image", f"ROOT/scans/{labels}", "--n_timepoints", "20"]]  # fmt: skip


JSON = [*damage.JSON, *damage.TEXT, *damage.BYTES]
# what is damaged, how, and the commands that read it
TARGETS: list[tuple[str, list, list[list[str]]]] = [
    ("cohort/data_resampled.h5", stores.STORE,
     [INSTRUCT, DOCTOR, DESCRIBE, PLAIN, AUDIT, PACK, EMBED, ALIGN, AUDIT_RUN]),
    ("scans/scan.h5", stores.STORE, scan("scan.h5")),
    ("cohort/participants.tsv", tables.TABLE, [INSTRUCT, PLAIN, AUDIT, DOCTOR, FOLDS]),
    ("cohort/samples.tsv", tables.TABLE, [INSTRUCT, DOCTOR, PLAIN]),
    ("cohort/splits.tsv", tables.TABLE, [ALIGN, PLAIN, AUDIT, DOCTOR]),
    ("cohort/atlas.tsv", tables.TABLE, [DESCRIBE, DOCTOR]),
    ("cohort/cohort.yaml", settings.YAML, [INSTRUCT, DOCTOR, DESCRIBE, PLAIN]),
    ("cohort/normalization_params.npz", [*damage.NPZ, *damage.BYTES], [INSTRUCT, PLAIN, DOCTOR]),
    ("cohort/descriptors_rewritten/fc_descriptors.csv", tables.TABLE, [ALIGN, TELL]),
    ("cohort/descriptors_rewritten/fc_reference.npz", [*damage.NPZ, *damage.BYTES],
     [TELL, DESCRIBE[:-1]]),
    ("cohort/test_readings.jsonl", [*damage.JSONL, *damage.BYTES], [PLAIN]),
    ("options.yaml", settings.YAML, [[*INSTRUCT, "-c", "ROOT/options.yaml"],
                                     [*PLAIN, "--config", "ROOT/options.yaml"]]),
    ("runs/inst/config.yaml", settings.YAML, [PLAIN, RESUME, REPORT, MERGE, AUDIT_RUN]),
    ("runs/inst/lineage.json", JSON, [PLAIN, RESUME, REPORT, METHODS, MERGE, AUDIT_RUN]),
    ("runs/tok/lineage.json", JSON, [REPORT, AUDIT_RUN, RESUME_TOK, ALIGN]),
    ("runs/inst/log.jsonl", [*damage.JSONL, *damage.TEXT, *damage.BYTES], [REPORT, RESUME]),
    ("runs/inst/trained_on.tsv", tables.TABLE, [PLAIN, AUDIT_RUN, METHODS]),
    ("runs/inst/trained_on.npz", [*damage.NPZ, *damage.BYTES], [AUDIT_RUN]),
    ("runs/inst/model/config.json", JSON, [PLAIN]),
    ("runs/inst/model/processor.json", JSON, [METHODS]),
    ("runs/align/model/config.json", JSON, [INSTRUCT]),
    ("runs/tok/model/config.json", JSON, [ALIGN, EMBED, REPORT]),
    ("runs/inst/model/bridge.safetensors", weights.WEIGHTS, [PLAIN]),
    ("runs/align/model/bridge.safetensors", weights.WEIGHTS, [INSTRUCT]),
    ("runs/tok/model/tokenizer.safetensors", weights.WEIGHTS, [ALIGN, EMBED]),
    ("runs/inst/model/lm/model.safetensors", [*weights.WEIGHTS, weights.pickle_beside], [PLAIN]),
    ("runs/inst/model/lm/config.json", [*JSON, weights.code_in_folder], [PLAIN]),
    ("runs/inst/model/lm/tokenizer.json", JSON, [PLAIN]),
    ("runs/inst/model/lm/tokenizer_config.json",
     [*JSON, weights.code_in_folder, weights.template, weights.template], [PLAIN]),
    ("runs/inst/model/lm/weights.json", JSON, [PLAIN]),
    ("runs/inst/checkpoints/epoch-0001/.metadata", [weights.metadata, weights.metadata, *damage.BYTES],
     [RESUME, MERGE]),
    ("runs/inst/checkpoints/epoch-0001/__0_0.distcp", [weights.shard, *damage.BYTES], [RESUME, MERGE]),
    ("runs/inst/checkpoints/epoch-0001/progress.json", JSON, [RESUME, MERGE]),
    ("runs/inst/checkpoints/epoch-0001/random-0.json", JSON, [RESUME]),
    ("runs/inst/evaluation/metrics.json", JSON, [REPORT, METHODS]),
    ("runs/inst/evaluation/generations.json", JSON, [REPORT]),
    ("runs/inst/evaluation/predictions.csv", tables.TABLE, [REPORT]),
    ("runs/inst/evaluation/comparison.csv", tables.TABLE, [REPORT]),
    ("scans/scan.tsv", tables.TABLE, scan("scan.tsv")),
    ("scans/scan.csv", tables.TABLE, scan("scan.csv")),
    ("scans/scan.txt", tables.TABLE, scan("scan.txt")),
    ("scans/scan.npy", images.NPY, scan("scan.npy")),
    ("scans/scan.mat", images.MAT, scan("scan.mat")),
    ("scans/scan.nii.gz", images.NIFTI, scan("scan.nii.gz")),
    ("scans/labels.nii.gz", images.NIFTI, [*scan("scan.nii.gz"), STUDY]),
    ("scans/scan.dtseries.nii", images.CIFTI, scan("scan.dtseries.nii")),
    ("scans/labels.dlabel.nii", images.CIFTI, scan("scan.dtseries.nii")),
    ("scans/scan.ptseries.nii", images.CIFTI, scan("scan.ptseries.nii")),
    ("scans/atlas.tsv", tables.TABLE, [*scan("scan.tsv"), STUDY]),
    ("study/sub-01/func/sub-01_task-rest_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz",
     images.NIFTI, [STUDY]),
    ("study/sub-01/func/sub-01_task-rest_space-MNI152NLin6Asym_desc-brain_mask.nii.gz",
     images.NIFTI, [STUDY]),
    ("study/sub-01/func/sub-01_task-rest_space-MNI152NLin6Asym_desc-preproc_bold.json", JSON, [STUDY]),
    ("study/sub-01/func/sub-01_task-rest_desc-confounds_timeseries.tsv", tables.TABLE,
     [STUDY, [*STUDY, "strategy=scrubbing"]]),
    ("study/participants.tsv", tables.TABLE, [STUDY, [*STUDY, "--phenotypes", "ROOT/study/participants.tsv"]]),
    ("texts/one.txt", [*damage.TEXT, *damage.BYTES],
     [["corpus", "build", "ROOT/texts", "-o", "ROOT/out.bin", "--lm", "ROOT/runs/tok/model/lm"]]),
    ("original.pt", [weights.archive, weights.archive, *damage.BYTES], [["import", "ROOT/original.pt", "-o", "ROOT/out"]]),
]  # fmt: skip


@dataclass
class Outcome:
    """What came of one input."""

    name: str
    words: list[str]
    kind: str  # ok | sentence | traceback | silent | code | hang | stray | unclear
    text: str = ""


class _Hang(BaseException):
    pass


def call(words: list[str]) -> tuple[int | str, str]:
    """Return the exit code of a command (or its traceback) and what it said."""
    from fmrilm.cli import main

    said = io.StringIO()

    def late(*_: object) -> None:
        raise _Hang

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    code: int | str = 0
    try:
        with redirect_stdout(said), redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main(words)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except _Hang:
        code = "hang"
    except BaseException:
        code = traceback.format_exc()
    finally:
        signal.alarm(0)
    return code, said.getvalue()


def judge(expected: str, code: int | str, said: str) -> tuple[str, str]:
    """Return the kind of an outcome, and the text that shows it."""
    tail = " ".join(said.split())[-400:]
    if code == "hang":
        return "hang", tail
    if isinstance(code, str) or "Traceback (most recent call last)" in said:
        return "traceback", str(code)[-1500:] if isinstance(code, str) else said[-1500:]
    if code == 2:
        clear = said.lstrip().startswith(("fmrilm: ", "Usage: ")) or "\nfmrilm: " in said
        return ("sentence" if clear and len(tail) > 15 else "unclear"), tail
    if code in (1, 3):
        return "ok", tail  # findings of doctor and audit; scans of prepare that failed are listed
    told = any(word in said for word in ("note:", "differ from", "masked", "failed"))
    if expected == REFUSE or (expected == SAY and not told):
        return "silent", tail
    return "ok", tail


def one(world: World, seed: int) -> Outcome:
    """Damage one input and run a command on it."""
    rng = np.random.default_rng(seed)
    with world.restored() as root:
        share = rng.random()
        if share < 0.18:
            make = pick(rng, commands.COMMANDS)
            words, expected = make(root, rng)
            name = f"command/{make.__name__}"
        elif share < 0.28:
            make = pick(rng, [settings.number, settings.number, settings.word])
            pair, expected = make(rng)
            words = [
                *pick(rng, [INSTRUCT, ALIGN, ["train", "tokenizer", *ALIGN[2:4], *ALIGN[6:]]]),
                pair,
            ]
            name = f"option/{pair[:80]}"
        else:
            place, ways, readers = pick(rng, TARGETS)
            way = pick(rng, ways)
            try:
                expected = way(root / place, rng, world.canary)
            except (ValueError, nibabel.spatialimages.HeaderDataError):  # no library writes this
                expected = damage.truncated(root / place, rng, world.canary)
            words = list(pick(rng, readers))
            name = f"{place}/{way.__name__}"
            if words[0] in ("audit", "report") and expected != ANY:
                expected = SAY if expected == REFUSE and words[0] == "audit" else ANY
        words = [word.replace("ROOT", str(root)) for word in words]
        kind, text = judge(expected, *call(words))
        if world.canary.exists():
            kind, text = "code", f"{kind}: {text}"
        elif strays := world.strays():
            kind, text = "stray", f"{strays[:3]}"
            for path in sorted(world.base.iterdir()):
                if path.name not in ("a", "pristine"):
                    path.unlink() if path.is_file() else None
        return Outcome(name, words, kind, text)


FAULTS = ("traceback", "silent", "code", "hang", "stray", "unclear")


def main() -> None:
    """Run the campaign of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", type=int, help="the one input of this number")
    parser.add_argument("--show", default=",".join(FAULTS), help="kinds to print, or all")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as base, tempfile.TemporaryDirectory() as here:
        os.chdir(here)  # an output named `,` lands here, not in the repository
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            world = build(Path(base))
        counts: Counter[str] = Counter()
        started = time.time()
        numbers = range(given.n) if given.only is None else [given.only]
        for number in numbers:
            begun = time.time()
            outcome = one(world, given.seed * 1_000_003 + number)
            counts[outcome.kind] += 1
            if (
                given.show == "all"
                or outcome.kind in given.show.split(",")
                or given.only is not None
            ):
                words = " ".join(outcome.words).replace(str(world.root), "W")[:300]
                print(
                    f"#{number} {outcome.kind.upper()} {outcome.name} ({time.time() - begun:.1f} s)\n   {words!r}\n{outcome.text}\n",
                    flush=True,
                )
    faults = sum(counts[kind] for kind in FAULTS)
    print(
        f"{len(list(numbers))} inputs, {faults} faults: {dict(counts)}, {time.time() - started:.0f} s"
    )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
