"""The options of `fmrilm evaluate`, in one value that all its parts read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fmrilm.errors import InputError
from fmrilm.evaluation import controls

# Options that say what to run and where to write; no score depends on them.
_NO_SCORES = ("checkpoint", "output", "datasets", "config", "lm_name", "samples", "strict", "json",
              "device")  # fmt: skip
_CHOICES = {
    "controls": ("standard", "all"),
    "answer": ("words", "head"),
    "normalise": ("none", "length"),
}


@dataclass(frozen=True)
class EvaluationOptions:
    """How runs are evaluated.

    Parameters
    ----------
    checkpoint : str, optional
        One more run, as the original's commands name it.
    output : str, optional
        Folder for the results (one subfolder per run if there are several, and ``folds``);
        without it <run>/evaluation.
    datasets : str, optional
        Comma-separated names of cohorts the run was trained on, folders of others, or the names of
        those in data/NAME/fmri/TianS3; without it all it was trained on.
    config : list of Path, optional
        YAML files with the targets of cohorts (``datasets``); their model settings have to be
        those the run was built with.
    lm_name : str, optional
        Name of the run's language model, to be checked against the run.
    tasks : str, optional
        Comma-separated tasks; without it those the run was trained on. With ``describe`` the
        scans are described, and the texts scored against what was measured in them.
    split : str
        train, val, test, or all (baselines then by cross-validation); without it the test split,
        and everybody of a cohort that no stage of the run was trained on.
    batch_size : int
        Scans scored at once.
    use_allowed_tokens : bool
        Choose among the task's answers; otherwise the free text is the answer, and one that
        cannot be read is wrong.
    free_text : bool
        Also let the model write its answer, and count what can be read.
    baselines : str
        standard, all, none, or comma-separated names of baselines.
    controls : str
        standard (text only, shuffled, zero) or all (also randomised phases, the cohort's sentence
        alone, and every wording of the question).
    scrutiny : bool
        Also calibration (fitted on val), prediction sets, confounds, and gaps between groups.
    answer : str
        What answers: words (the language model: probabilities of the answers, the expected value
        of a number) or head (the classification or regression head of a run with use_cls_head).
    samples : int
        Scans that are described in free text.
    seed : int
        Random seed for shuffling scans between people.
    strict : bool
        Exit with 1 if there is a task to which the scan adds nothing.
    text_model : str, optional
        Folder or name of a text encoder, for the BERTScore of descriptions.
    normalise : str
        none, or length: answers are compared by their mean log-probability per token, for language
        models that were not trained on them. Not for numbers.
    device : str
        auto (a GPU if there is one), cpu, cuda, ...
    dtype : str
        Of the language model: auto (bfloat16 on a GPU that has it), float32, bfloat16 or float16.
    json : bool
        Print the results to standard output as JSON, and everything else to standard error.

    Raises
    ------
    InputError
        If an option has an unknown value, or two of them contradict each other.
    """

    checkpoint: str | None = None
    output: str | None = None
    datasets: str | None = None
    config: list[Path] | None = None
    lm_name: str | None = None
    tasks: str | None = None
    split: str | None = None
    batch_size: int = 32
    use_allowed_tokens: bool = True
    free_text: bool = True
    baselines: str = "standard"
    controls: str = "standard"
    scrutiny: bool = True
    answer: str = "words"
    samples: int = 4
    seed: int = 0
    strict: bool = False
    text_model: str | None = None
    normalise: str = "none"
    device: str = "auto"
    dtype: str = "auto"
    json: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise InputError(f"unknown {name} {value!r}: use {' or '.join(choices)}")
        if not self.use_allowed_tokens and not self.free_text:
            raise InputError("--no-use_allowed_tokens takes the free text: drop --no-free_text")
        if self.head and self.per_token:
            raise InputError("--normalise is about answers in words: drop it, or --answer head")

    @property
    def scored_split(self) -> str:
        """The split that is scored where nothing else holds."""
        return self.split or "test"

    @property
    def head(self) -> bool:
        """Whether the head of the model answers, not its words."""
        return self.answer == "head"

    @property
    def per_token(self) -> bool:
        """Whether answers are compared by their mean log-probability per token."""
        return self.normalise == "length"

    @property
    def answered_by(self) -> str:
        """What of the model answers, as results name it."""
        if self.head:
            return "head"
        return "words per token" if self.per_token else "words"

    @property
    def control_names(self) -> tuple[str, ...]:
        """The controls that are run."""
        return controls.EXTENDED if self.controls == "all" else controls.STANDARD

    @property
    def passes(self) -> int:
        """How often every scan is gone through, for the progress bar."""
        return 1 + int(self.free_text) + len(self.control_names) - 1  # shuffles are free

    def of_scores(self) -> dict[str, Any]:
        """Those options that scores depend on, as JSON knows them."""
        return {name: value for name, value in asdict(self).items() if name not in _NO_SCORES}
