"""Command lines that nobody meant, on undamaged files."""

from __future__ import annotations

import shutil
from pathlib import Path

from fuzz.damage import ANY, REFUSE, Rng, pick

VALUES = ["", " ", "-1", "0", "1e9", "nan", "inf", "x", "../../../x", "/", "/dev/null", "/dev/full", "/etc/passwd",
          "/proc/self/mem", "é\u202e", "a\nb", "[", "{x}", "$HOME", "${x}", "a[1]", "a,b", "=", "--", "-", "*", "x" * 5000,
          ",", ",,", "None", "true", "[]", "~", "%s", "\\", "'", '"', ";", "|", "1.5", "9" * 30]  # fmt: skip
FLAGS = {
    "prepare": ["-o", "--cohort", "--phenotypes", "--jobs", "--scheduler", "--slurm"],
    "doctor": ["--atlas", "--atlas_image", "--checkpoint", "--t_r", "--n_timepoints"],
    "audit": ["--run", "--add_desc"],
    "folds": ["--count", "--seed"],
    "pack": ["--norm", "--state"],
    "simulate": ["--cohort", "--subjects", "--seed", "--timepoints"],
    "describe": ["--types", "--jobs", "--seed", "--paraphrases", "--gallery", "--rewriter", "--state"],
    "corpus": ["-o", "--lm"],
    "train": ["-o", "--init", "-c", "--quantizer", "--lm_name", "--dataset_dir", "--epochs", "--batch_size",
              "--zero_stage", "--deepspeed", "--desc_type", "--learning_rate", "--mixed_precision", "--parallel",
              "--clip_loss_type", "--text_corpus", "--fewshot_samples", "--nope"],
    "import": ["-o", "--lm", "--prompt_layout", "--num_timestamp", "--heads", "--lora_alpha"],
    "merge": ["-o"],
    "evaluate": ["--checkpoint", "-o", "--datasets", "--config", "--lm_name", "--tasks", "--split", "--batch_size",
                 "--baselines", "--controls", "--answer", "--samples", "--seed", "--text_model", "--normalise"],
    "explain": ["--task", "--dataset", "--split", "--samples", "--steps", "--answer", "--labels_img", "-o"],
    "embed": ["-o", "--split", "--kind"],
    "report": ["-o", "--title"],
    "benchmark": ["-o", "--datasets", "--baselines", "--controls", "--repeats", "--batch_size", "--jobs"],
}  # fmt: skip
PLAIN = ["--baselines", "none", "--no-scrutiny", "--no-free_text", "--controls", "standard"]


def usual(verb: str, root: Path, out: Path) -> list[str]:
    """Return a right command of a verb."""
    runs, cohort = root / "runs", root / "cohort"
    study = [
        f"atlas={root}/scans/atlas.tsv",
        f"atlas_image={root}/scans/labels.nii.gz",
        "n_timepoints=20",
    ]
    words = {
        "prepare": [root / "study", "-o", out, *study],
        "doctor": [cohort, "--n_timepoints", "20"],
        "audit": [cohort],
        "folds": [cohort],
        "pack": [cohort],
        "simulate": [out, "--subjects", "12", "--timepoints", "20"],
        "describe": [cohort, "--jobs", "1", "--gallery", "0"],
        "corpus": [
            "build",
            root / "texts",
            "-o",
            out.with_suffix(".bin"),
            "--lm",
            runs / "tok/model/lm",
        ],
        "train": [
            "instruct",
            "-o",
            out,
            "--init",
            runs / "align",
            f"data.dataset_dir=[{cohort}]",
            "train.epochs=1",
        ],
        "import": [root / "original.pt", "-o", out],
        "merge": [runs / "inst", "-o", out, "--checkpoint"],
        "evaluate": [runs / "inst", "-o", out, *PLAIN],
        "explain": [runs / "inst", "--split", "train", "--samples", "4", "--steps", "2", "-o", out],
        "embed": [runs / "tok", cohort, "-o", out.with_suffix(".npy")],
        "report": [runs / "inst", "-o", out.with_suffix(".html")],
        "benchmark": [runs / "inst", "-o", out, "--repeats", "0", "--baselines", "none"],
    }[verb]
    return [verb, *map(str, words)]


def odd_flag(root: Path, rng: Rng) -> tuple[list[str], str]:
    verb = pick(rng, FLAGS)
    words = usual(verb, root, root / "out")
    flag, value = pick(rng, FLAGS[verb]), pick(rng, VALUES)
    if value == "true" and rng.random() < 0.5:
        return [*words, flag], ANY
    if flag in words:
        words[words.index(flag) + 1] = value
        return words, ANY
    return [*words, flag, value], ANY


def odd_word(root: Path, rng: Rng) -> tuple[list[str], str]:
    verb = pick(rng, FLAGS)
    words = usual(verb, root, root / "out")
    words[int(rng.integers(0, len(words)))] = pick(rng, VALUES)
    return words, ANY


def lacking(root: Path, rng: Rng) -> tuple[list[str], str]:
    words = usual(pick(rng, FLAGS), root, root / "out")
    words.pop(int(rng.integers(0, len(words))))
    return words, ANY


def swapped(root: Path, rng: Rng) -> tuple[list[str], str]:
    """Another folder or file than the one that is meant."""
    verb = pick(rng, FLAGS)
    words = usual(verb, root, root / "out")
    others = [
        str(path) for path in sorted(root.rglob("*")) if len(path.relative_to(root).parts) <= 3
    ]
    positions = [i for i, w in enumerate(words) if w.startswith(str(root)) and "out" not in w]
    if not positions:
        return words, ANY
    words[pick(rng, positions)] = pick(rng, others)
    return words, ANY


def over(root: Path, rng: Rng) -> tuple[list[str], str]:
    """The output is something that is there already."""
    verb = pick(rng, [v for v in FLAGS if any("out" in w for w in usual(v, root, root / "out"))])
    words = usual(verb, root, root / "out")
    there = [
        "runs/inst",
        "runs/tok",
        "runs/align",
        "runs",
        "scans/scan.npy",
        "texts/one.txt/below",
        "cohort",
        ".",
    ]
    there = [str(root / name) for name in there]
    at = next(i for i, w in enumerate(words) if w.startswith(str(root / "out")))
    words[at] = pick(rng, [*there, "/dev/full", "/dev/null", "/proc/x", "/proc/x/y", ""])
    # what would silently replace something is refused; a folder to go on in is not
    refuse = (
        verb in ("train", "merge", "import", "simulate") and words[at] in there[:3] + there[6:7]
    )
    return words, REFUSE if refuse else ANY


def setting(root: Path, rng: Rng) -> tuple[list[str], str]:
    """A setting of `prepare` that makes no sense."""
    names = ["atlas", "atlas_image", "min_coverage", "dummy_scans", "strategy", "confounds.motion", "detrend", "high_pass",
             "low_pass", "t_r", "target_t_r", "resampling", "length", "n_timepoints", "seed", "variable", "bids.task", "nope"]  # fmt: skip
    return [*usual("prepare", root, root / "out"), f"{pick(rng, names)}={pick(rng, VALUES)}"], ANY


ODD_NAMES = ["a[1]", "{x}", "$HOME", "a b", "a,b", "a=b", "é", "a'b", 'a"b', "a#b", "-x", "~", "a\nb", "%s", "a:b",
             "*", "[x", "x]", "${oc.env:HOME}", "null", "true", "1", "a\tb", "!x", "&x", "@x", "\\x", "a;b", "a|b"]  # fmt: skip


def odd_path(root: Path, rng: Rng) -> tuple[list[str], str]:
    """A cohort or run in a folder with an unusual name, in every way it can be named."""
    name = pick(rng, ODD_NAMES)
    place = root / "odd" / name
    place.parent.mkdir()
    verb = pick(
        rng,
        [
            "train",
            "train",
            "evaluate",
            "describe",
            "doctor",
            "audit",
            "pack",
            "prepare",
            "embed",
            "folds",
        ],
    )
    words = usual(verb, root, root / "out")
    cohort = str(root / "cohort")
    if verb == "prepare":
        shutil.copytree(root / "study", place)
        return [str(place) if word == str(root / "study") else word for word in words], ANY
    shutil.copytree(cohort, place)
    if verb == "evaluate":
        return [*words, "--datasets", str(place)], ANY
    if verb == "train" and rng.random() < 0.5:
        return [*words[:-2], "--dataset_dir", str(place), words[-1]], ANY
    return [word.replace(cohort, str(place)) for word in words], ANY


def odd_output(root: Path, rng: Rng) -> tuple[list[str], str]:
    """An output folder with an unusual name."""
    verb = pick(rng, [v for v in FLAGS if any("out" in w for w in usual(v, root, root / "out"))])
    return usual(verb, root, root / "odd" / pick(rng, ODD_NAMES)), ANY


COMMANDS = [odd_flag, odd_flag, odd_flag, odd_flag, odd_word, odd_word, lacking, swapped, swapped, over, over,
            setting, setting, odd_path, odd_path, odd_output]  # fmt: skip
