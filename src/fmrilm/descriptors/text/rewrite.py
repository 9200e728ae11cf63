"""Optional rewording by a language model, accepted only when every fact survives.

Off by default: the grammar alone writes fluent, varied text. A model is asked to reword one
paragraph; the answer is checked against the paragraph and rejected when a number, a sign, a
network or a direction has changed, is missing or was added.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmrilm.descriptors.text.claims import Claim, parse_claims
from fmrilm.descriptors.text.verify import make_lexicon, verify
from fmrilm.errors import InputError

INSTRUCTION = (
    "Reword the following report on a brain scan as one flowing paragraph. Keep every number with "
    "its sign, every network, every direction and the words typical, somewhat and markedly. Add "
    "nothing and leave nothing out. Answer with the paragraph only."
)
_NUMBER = re.compile(r"(?<![\w.])[-\u2212]?\d+(?:\.\d+)?")

Rewriter = Callable[[str], str]


@dataclass(frozen=True)
class Rewrite:
    """The text to use, whether a model wrote it, and why its attempts were rejected."""

    text: str
    accepted: bool
    rejections: tuple[str, ...] = field(default_factory=tuple)


def rewrite(
    text: str,
    measures: Mapping[str, Any],
    rewriter: Rewriter,
    place_names: Mapping[str, str] | None = None,
    attempts: int = 2,
) -> Rewrite:
    """Return the paragraph reworded by ``rewriter``, or as it is where every attempt is rejected.

    Parameters
    ----------
    text : str
        Written by the grammar.
    measures : mapping of str to float
        The scan's measures and z, as for :func:`verify`.
    rewriter : callable
        From a paragraph to a paragraph: :class:`LocalRewriter`, :class:`EndpointRewriter`, or any
        function.
    place_names : mapping of str to str, optional
        As for :func:`verify`.
    attempts : int
        How often the rewriter is asked.
    """
    rejections: list[str] = []
    for _ in range(attempts):
        candidate = " ".join(rewriter(text).split())
        problem = find_change(text, candidate, measures, place_names)
        if not problem:
            return Rewrite(candidate, True, tuple(rejections))
        rejections.append(problem)
    return Rewrite(text, False, tuple(rejections))


def find_change(
    text: str,
    candidate: str,
    measures: Mapping[str, Any],
    place_names: Mapping[str, str] | None = None,
) -> str:
    """Return what a rewording changed of the facts, in words; empty when nothing.

    A rewording whose claims cannot be read back counts as changed: the check errs on the side of
    rejecting.
    """
    if not candidate:
        return "the answer is empty"
    before, after = _numbers(text), _numbers(candidate)
    if before != after:
        lost, added = sorted((before - after).elements()), sorted((after - before).elements())
        return f"numbers changed: lost {lost}, added {added}"
    for verdict in verify(candidate, measures, place_names).verdicts:
        if verdict.verdict != "supported":
            return f"{verdict.verdict}: {verdict.claim.text!r} ({verdict.claim.measure})"
    lexicon = make_lexicon(measures, place_names)
    told = {_key(claim) for claim in parse_claims(text, lexicon)}
    retold = {_key(claim) for claim in parse_claims(candidate, lexicon)}
    for measure, *_ in sorted(told - retold):
        return f"no longer said: {measure}"
    for measure, *_ in sorted(retold - told):
        return f"added: {measure}"
    return ""


def _key(claim: Claim) -> tuple[str, str, str, str, str]:
    quantity, *places = claim.measure.split("__")
    name = "__".join((quantity, *sorted(places)))
    return name, claim.direction, claim.strength, claim.z, claim.value


def _numbers(text: str) -> Counter[str]:
    return Counter(number.replace("\u2212", "-") for number in _NUMBER.findall(text))


class LocalRewriter:
    """Reword with a causal language model of Hugging Face, on this machine.

    Parameters
    ----------
    model : str
        Name or folder of the model, loaded by ``AutoModelForCausalLM``.
    max_new_tokens : int
        Limit of the answer.
    load_options : dict, optional
        Passed on to ``from_pretrained`` (``gguf_file``, ``dtype``, ``device_map``, ...).
    """

    def __init__(
        self,
        model: str,
        max_new_tokens: int = 400,
        load_options: Mapping[str, Any] | None = None,
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        options = {**(load_options or {}), "trust_remote_code": False}
        self.text_tokenizer = AutoTokenizer.from_pretrained(model, **options)
        self.model = AutoModelForCausalLM.from_pretrained(model, **options).eval()
        self.max_new_tokens = max_new_tokens

    def __call__(self, text: str) -> str:
        """Return the model's rewording of a paragraph (greedy, so the same every time)."""
        prompt = f"{INSTRUCTION}\n\n{text}"
        if self.text_tokenizer.chat_template is not None:
            turns = [{"role": "user", "content": prompt}]
            prompt = str(
                self.text_tokenizer.apply_chat_template(
                    turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
                )
            )
        else:
            prompt += "\n\n"
        batch = self.text_tokenizer(prompt, return_tensors="pt").to(self.model.device)
        answer = self.model.generate(**batch, max_new_tokens=self.max_new_tokens, do_sample=False)[
            0, batch["input_ids"].shape[1] :
        ]
        return str(self.text_tokenizer.decode(answer, skip_special_tokens=True)).strip()


class EndpointRewriter:
    """Reword with an OpenAI-compatible chat endpoint. Texts leave this machine.

    Parameters
    ----------
    url : str
        Base address, e.g. of a vLLM server: ``http://localhost:8000/v1``.
    model : str
        Name of the model there.
    key : str
        Sent as bearer token when not empty.
    timeout : float
        Seconds to wait for an answer.
    """

    def __init__(self, url: str, model: str, key: str = "", timeout: float = 120.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"the rewriter's address {url!r} must begin with http:// or https://")
        self.url = url.rstrip("/") + "/chat/completions"
        self.model = model
        self.key = key
        self.timeout = timeout

    def __call__(self, text: str) -> str:
        """Return the endpoint's rewording of a paragraph.

        Raises
        ------
        InputError
            If the endpoint cannot be reached, or answers in another layout.
        """
        turns = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text}]
        body = json.dumps({"model": self.model, "messages": turns, "temperature": 0.7}).encode()
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(self.url, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return str(json.load(answer)["choices"][0]["message"]["content"])
        except (urllib.error.URLError, TimeoutError) as error:
            raise InputError(f"the rewriter {self.url} does not answer: {error}") from None
        except (KeyError, IndexError, TypeError, ValueError):
            raise InputError(
                f"the rewriter {self.url} did not answer as a chat endpoint does"
            ) from None


def acceptance(rewrites: Sequence[Rewrite]) -> float:
    """Return the share of paragraphs whose rewording was accepted."""
    return sum(item.accepted for item in rewrites) / max(1, len(rewrites))
