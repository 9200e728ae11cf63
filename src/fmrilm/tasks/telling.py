"""What a text about a person may tell a model that is to answer a question about that person.

A text is cut into clauses, and a clause is left out if it has a word that gives the answer away:
one of the answers, the name of a column that reveals it, or a word of the field. A list of words
knows no other language and no unheard-of phrase: :func:`stating_words` adds those that state the
label of training people in fact.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from fmrilm.tasks.base import Task

_DIAGNOSIS = "diagnos* patient patients healthy control controls disorder typically iq"
# Words of the field by label column; * stands for any ending.
_WORDS = {
    "sex": "female* male* woman man women men girl* boy* he she his her hers him gender* pregnan* "
    "menopaus* prostat* testosteron* estrogen* hysterectom* mother* father* wife husband*",
    "age": "age* year* old older young* elder* born birth* decade*",
    "AD": f"{_DIAGNOSIS} alzheimer* dementia* mci impair* cognit* memory amyloid* tau mmse cdr* "
    "apoe* av45 fdg adas* suvr normal* decline*",
    "ADHD": f"{_DIAGNOSIS} adhd attention* hyperactiv* inattent* impulsiv* medicat* stimulant* "
    "conners",
    "ASD": f"{_DIAGNOSIS} autis* asperger* spectrum ados adi srs social*",
    "apoe4_enc": "apoe* allele* carrier* alzheimer* genotyp*",
    "av45_enc": "av45 amyloid* suvr florbetapir pet alzheimer*",
    "fluidintel": "fluid* intelligen* iq reasoning cognit*",
    "flanker": "flanker* inhibit* executive cognit* attention*",
}
_AT_LEAST, _PURE, _COVERS = 5, 0.98, 0.5  # scans with a word; share of one class; of that class


def clauses(text: str) -> list[str]:
    """Return the clauses of a text, headings and bullets without their marks.

    Examples
    --------
    >>> clauses("Subject Information:\\n- Demographics: Male subject, 45-year-old")
    ['Male subject', '45-year-old']
    """
    parts = re.split(r"[\n;,]+|(?<=[^\d\W])[.!?]\s+|\.\s*$", text)
    bare = [re.sub(r"^[\s\-*#>]+", "", part).strip() for part in parts]
    bare = [re.sub(r"^[A-Z][\w ]*:(?:\s+|$)", "", part) for part in bare]
    return [part.rstrip(".") for part in bare if part]


def revealing(task: Task, more: Collection[str] = ()) -> re.Pattern[str]:
    """Return what matches a clause that gives the answer of a task away.

    Parameters
    ----------
    task : Task
    more : collection of str
        Further words.
    """
    words = {part for name in (*task.reveals, task.column) for part in _parts(name)}
    words |= set(_WORDS.get(task.column, _WORDS.get(task.column.removesuffix("_enc"), "")).split())
    if task.kind in ("binary", "multiclass"):
        words |= {answer.lower() for answer in task.candidates if not answer.isdigit()}
    words |= {word.lower() for word in more}
    escaped = [re.escape(word).replace(r"\*", r"\w*") for word in sorted(words)]
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(escaped)})(?![^\W_])", re.IGNORECASE)


def _parts(name: str) -> set[str]:
    whole = name.lower()
    return {
        whole,
        *(part for part in re.split(r"[_\W]+", whole) if len(part) > 2 and part != "enc"),
    }


def split_told(text: str, patterns: Sequence[re.Pattern[str]]) -> tuple[str, list[str]]:
    """Return what of a text may be told, and the clauses that are left out."""
    told: list[str] = []
    left_out: list[str] = []
    for clause in clauses(text):
        hidden = any(pattern.search(clause) for pattern in patterns)
        (left_out if hidden else told).append(clause)
    return ", ".join(told), left_out


def stating_words(texts: Sequence[str], labels: Sequence[int | None]) -> set[str]:
    """Return the words that state a class: nearly all texts with one are of it, and half of its.

    Parameters
    ----------
    texts : sequence of str
        Of training people.
    labels : sequence of int or None
        The class of each; None: not known.
    """
    known = [(set(_words_of(t)), k) for t, k in zip(texts, labels, strict=True) if k is not None]
    sizes: dict[int, int] = {}
    counts: dict[str, dict[int, int]] = {}
    for words, label in known:
        sizes[label] = sizes.get(label, 0) + 1
        for word in words:
            by_class = counts.setdefault(word, {})
            by_class[label] = by_class.get(label, 0) + 1
    if len(sizes) < 2:
        return set()
    return {
        word
        for word, by_class in counts.items()
        if (total := sum(by_class.values())) >= _AT_LEAST
        and any(n >= _PURE * total and n >= _COVERS * sizes[k] for k, n in by_class.items())
        and total < len(known)
    }


def _words_of(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())
