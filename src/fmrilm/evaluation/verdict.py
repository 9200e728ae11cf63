"""What a score says of the model, in three sentences, each with its paired difference.

*Reads the scan*: better than without the scan and than with another person's. *Tokens add*: better
than with the tokens of another person, and than a linear model of its own summary tokens'
components. *Beats the best plain model*: the best on the evaluated scans, a choice that favours it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmrilm.evaluation.controls import DECISIVE, SUMMARY_SWAPPED, TOKENS_SWAPPED

if TYPE_CHECKING:
    from fmrilm.evaluation.results import Predictor
    from fmrilm.stats.intervals import Estimate
    from fmrilm.stats.kinds import Kind

SENTENCES = ("reads_scan", "tokens_add", "beats_plain")
READERS = "readers"  # what the readers tell the language model, without it
SUMMARY_READER = "summary_linear"  # the linear model of the components behind the summary tokens
OTHERWISE = {  # what stands in front where the sentence holds, does not, or cannot be said
    "reads_scan": {
        True: "it reads the scan",
        False: "that it reads the scan cannot be shown",
        None: "whether it reads the scan cannot be said",
    },
    "tokens_add": {
        True: "its tokens add to the summary",
        False: "that its tokens add to the summary cannot be shown",
        None: "whether its tokens add to the summary cannot be said",
    },
    "beats_plain": {
        True: "it beats the best plain model",
        False: "that it beats the best plain model cannot be shown",
        None: "whether it beats a plain model cannot be said",
    },
}
MOST, LITTLE = 0.5, 0.2  # shares of what the score is above chance


@dataclass(frozen=True)
class Prompt:
    """What the model is given besides the tokens of a scan.

    ``has_facts``: what stands in the prompt differs between people. ``summary_of`` a scan, in
    words; empty: there are no summary tokens.
    """

    has_facts: bool = True
    summary_of: str = ""


def verdict(
    predictors: Mapping[str, Predictor], kind: Kind, prompt: Prompt | None = None
) -> dict[str, Any]:
    """Return the three sentences, what carries the score, and whether the text gives it away.

    Parameters
    ----------
    predictors : mapping
        Name -> scores, and how far the model's are from them.
    kind : Kind
        Of the answers: which score decides.
    prompt : Prompt, optional

    Returns
    -------
    dict
        ``reads_scan``, ``tokens_add`` and ``beats_plain``: each ``holds`` (True, False, or None
        where it cannot be said), ``text`` and the differences (``over``). ``scan_adds`` is whether
        it reads the scan; ``leak``: the text alone scores above chance and as well as with the
        scan; ``carried_by``: in words; ``text``: that of the first sentence.
    """
    prompt = prompt or Prompt()
    reads = _sentence("reads_scan", predictors, DECISIVE, kind)
    if reads["holds"] is not None and not prompt.has_facts:
        reads["text"] += (
            "; the prompt is the same for everybody, so both are at chance by construction and "
            f"this says that {kind.primary_title} is{'' if reads['holds'] else ' not clearly'} "
            f"above {kind.chance:g}, no more"
        )
    leak = _leaks(predictors, kind)
    if leak:
        alone = predictors["text_only"].metrics[kind.primary]
        reads["text"] = (
            f"the text alone scores as well ({kind.primary_title} {alone.value:.3f}): the scan "
            "adds nothing, look for a leak in the prompt"
        )
    tokens = _sentence("tokens_add", predictors, (TOKENS_SWAPPED, SUMMARY_READER), kind)
    if not prompt.summary_of:
        words = "it has no summary: all that it reads of a scan stands in its tokens"
        tokens = {"holds": None, "text": words, "over": {}}
    return {
        "scan_adds": reads["holds"],
        "leak": leak,
        "text": reads["text"],
        "reads_scan": reads,
        "tokens_add": tokens,
        "beats_plain": _against_the_best(predictors, kind),
        "carried_by": _carried_by(predictors, kind, prompt.summary_of),
    }


def best_baseline(predictors: Mapping[str, Predictor], kind: Kind) -> str | None:
    """Return the baseline with the highest score on the evaluated scans; None if there is none."""
    known = {
        name: predictor.metrics[kind.primary].value
        for name, predictor in predictors.items()
        if predictor.role == "baseline"
    }
    known = {name: value for name, value in known.items() if not math.isnan(value)}
    return max(known, key=lambda name: known[name], default=None)


def _sentence(
    which: str, predictors: Mapping[str, Predictor], names: tuple[str, ...], kind: Kind
) -> dict[str, Any]:
    """Return whether the model is clearly better than all of some predictors that were run."""
    gains = {n: predictors[n].difference[kind.primary] for n in names if n in predictors}
    unknown = [gain for gain in gains.values() if math.isnan(gain.low)]
    over = {
        name: {"title": predictors[name].title, **gain.to_dict()} for name, gain in gains.items()
    }
    if not gains or unknown:
        reason = unknown[0].reason if unknown else "nothing to compare with was run"
        return {"holds": None, "text": f"{OTHERWISE[which][None]}: {reason}", "over": over}
    holds = all(gain.low > 0 for gain in gains.values())
    told = " and ".join(f"{_say(gain)} over {predictors[n].title}" for n, gain in gains.items())
    return {"holds": holds, "text": f"{OTHERWISE[which][holds]}: {told}", "over": over}


def _against_the_best(predictors: Mapping[str, Predictor], kind: Kind) -> dict[str, Any]:
    best = best_baseline(predictors, kind)
    if best is None:
        words = f"{OTHERWISE['beats_plain'][None]}: none was fitted"
        return {"holds": None, "text": words, "over": {}}
    found = _sentence("beats_plain", predictors, (best,), kind)
    if found["holds"] is None:
        return found
    gain, plain = predictors[best].difference[kind.primary], predictors[best]
    if gain.high < 0:
        found["text"] = f"it is below the best plain model: {_say(gain)} against {plain.title}"
    score = plain.metrics[kind.primary].value
    found["text"] += f" ({kind.primary_title} {score:.3f}, the best of them on these very scans)"
    return found


def _leaks(predictors: Mapping[str, Predictor], kind: Kind) -> bool:
    if "text_only" not in predictors:
        return False
    alone, gain = (
        found[kind.primary]
        for found in (predictors["text_only"].metrics, predictors["text_only"].difference)
    )
    return bool(alone.low > kind.chance and gain.low <= 0)


def _carried_by(predictors: Mapping[str, Predictor], kind: Kind, summary_of: str) -> str:
    """Return in plain words whether tokens or summary carry the score; empty if it is unknown."""
    if not {"model", TOKENS_SWAPPED, SUMMARY_SWAPPED} <= set(predictors):
        return ""
    model, tokens, summary = (
        predictors[name].metrics[kind.primary]
        for name in ("model", TOKENS_SWAPPED, SUMMARY_SWAPPED)
    )
    above = model.value - kind.chance
    if any(math.isnan(one.value) for one in (model, tokens, summary)):
        return ""
    numbers = (
        f"{kind.primary_title} {model.value:.3f}, with another person's tokens {tokens.value:.3f}, "
        f"with another person's summary {summary.value:.3f}"
    )
    if not model.low > kind.chance:
        return f"nothing to be carried: the score is not clearly above chance ({numbers})"
    without_tokens, without_summary = (
        (model.value - one.value) / above for one in (tokens, summary)
    )
    who = f"the summary of {summary_of}"
    if without_summary > MOST and without_tokens < LITTLE:
        start = f"{who} carries it"
    elif without_tokens > MOST and without_summary < LITTLE:
        start = "the tokens carry it"
    elif max(without_tokens, without_summary) < LITTLE:
        start = f"the tokens or {who} alone would do"
    elif without_summary > without_tokens:
        start = f"{who} carries most of it, the tokens the rest"
    else:
        start = f"the tokens carry most of it, {who} the rest"
    return f"{start}: {numbers}"


def _say(gain: Estimate) -> str:
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
