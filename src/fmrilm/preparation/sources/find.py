"""Find the scans of a cohort below a folder: by path patterns, or by BIDS names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fmrilm.errors import InputError
from fmrilm.preparation.sources.bids_names import BidsName, bids_names
from fmrilm.preparation.sources.read import IMAGES, ScanFile
from fmrilm.signals.timing import sidecar_t_r
from fmrilm.studies.known import CohortInfo

_SPACES = ("MNI152NLin6Asym", "MNI152NLin2009cAsym")  # preferred first: the atlas is in 6Asym
_DESCRIPTIONS = ("denoised", "preproc")  # preferred first: XCP-D's output, fMRIPrep's
# What counts as a scan in BIDS derivatives, preferred first.
_BIDS_KINDS: tuple[dict[str, str], ...] = (
    {"suffix": "bold", "extension": ".nii.gz"},
    {"suffix": "bold", "extension": ".nii"},
    {"suffix": "timeseries", "extension": ".ptseries.nii"},
    {"suffix": "bold", "extension": ".ptseries.nii"},
    {"suffix": "timeseries", "extension": ".tsv"},
    {"suffix": "bold", "extension": ".dtseries.nii"},
)
_WORD = r"[^\W_](?:[^\W_]|-)*"  # letters and digits of any script, hyphens inside
_ID = r"[^\W_][\w-]*"  # 002_S_0295, A-01


def find_scans(
    root: str | Path, info: CohortInfo, strategy: str = "none", bids: dict[str, str] | None = None
) -> list[ScanFile]:
    """Return the scans below ``root``, sorted by subject and session.

    Parameters
    ----------
    root : path
        Folder of the scans, or an HDF5 store of the original.
    info : CohortInfo
        Its ``files`` are the patterns; without any, BIDS names are used.
    strategy : str
        Cleaning strategy: ``ica_aroma`` takes fMRIPrep's smoothAROMAnonaggr images.
    bids : dict of str to str
        Entities a BIDS file must have, e.g. ``{"task": "rest", "space": "MNI152NLin6Asym"}``.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    InputError
        If no scan is found, or two files are the same subject and session.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"{root} not found: give the folder that holds the scans")
    if root.is_file():
        scans = _from_store(root)
    elif info.files:
        scans = list(_from_patterns(root, info))
    else:
        scans = _from_bids(root, strategy, bids or {})
    if not scans:
        raise InputError(f"no scan below {root} is named like {', '.join(info.files)}")
    scans.sort(key=lambda scan: (scan.subject, scan.session))
    for first, second in pairwise(scans):
        if (first.subject, first.session) == (second.subject, second.session):
            raise InputError(
                f"{first.path} and {second.path} are both subject {first.subject} session "
                f"{first.session}: choose one with {_narrower(scans, first)}"
            )
    if info.sessions == "first":
        seen: dict[str, ScanFile] = {}
        for scan in scans:
            seen.setdefault(scan.subject, scan)
        scans = list(seen.values())
    return scans


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the expression of a path pattern; a name that occurs twice must be the same.

    ``{subject}`` takes letters and digits of any script, hyphens and underscores; the others
    the same without underscores, ``{site}`` anything but a slash.

    Examples
    --------
    >>> compile_pattern("{subject}/rest_{run}.nii.gz").fullmatch("s1/rest_2.nii.gz")["run"]
    '2'
    """
    text, seen = "", set()
    for literal, name in re.findall(r"([^{}]+)|\{(\w+)\}", pattern):
        if literal:
            text += re.escape(literal).replace(r"\*", "[^/]*")
        elif name in seen:
            text += f"(?P={name})"
        else:
            seen.add(name)
            kind = {"site": "[^/]+?", "subject": _ID}.get(name, _WORD)
            text += f"(?P<{name}>{kind})"
    if "subject" not in seen:
        raise InputError(f"the pattern {pattern!r} has no {{subject}}")
    return re.compile(text)


def _from_patterns(root: Path, info: CohortInfo) -> Iterator[ScanFile]:
    patterns = [compile_pattern(pattern) for pattern in info.files]
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in names:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            for pattern in patterns:
                match = pattern.fullmatch(relative)
                if match is None:
                    continue
                parts = match.groupdict()
                session = "_".join(
                    parts[key] for key in ("session", "dir", "run") if parts.get(key)
                )
                scan = ScanFile(parts["subject"], session or "1", path, t_r=sidecar_t_r(path))
                if "sub" in BidsName(path).entities:  # confounds and mask lie beside it
                    beside = BidsName(path).scan()
                    scan = replace(beside, subject=scan.subject, session=scan.session)
                yield scan
                break


def _from_store(path: Path) -> list[ScanFile]:
    from fmrilm.cohort.store import TimeSeriesStore

    store = TimeSeriesStore(path)
    keys = zip(store.subjects, store.sessions, strict=True)
    return [
        ScanFile(subject, session, path, index) for index, (subject, session) in enumerate(keys)
    ]


def _narrower(scans: Sequence[ScanFile], twice: ScanFile) -> str:
    """Return the setting that keeps one of the files that are taken for one scan."""
    key = (twice.subject, twice.session)
    names = [BidsName(scan.path) for scan in scans if (scan.subject, scan.session) == key]
    for entity in dict.fromkeys(key for name in names for key in name.entities):
        values = sorted({name.entities.get(entity, "") for name in names} - {""})
        if len(values) > 1 and entity != "sub":
            return f"bids.{entity}={values[0]} (there are {', '.join(values)})"
    return "bids.ENTITY=VALUE, or a stricter pattern"


def _from_bids(root: Path, strategy: str, wanted: dict[str, str]) -> list[ScanFile]:
    special = {key: value for key, value in wanted.items() if key in ("suffix", "extension")}
    rest = {key: value for key, value in wanted.items() if key not in special}
    names = [name for name in bids_names(root) if all(name.has(*pair) for pair in rest.items())]
    for kind in (special,) if special else _BIDS_KINDS:
        files = [name for name in names if _is_kind(name, kind) and _fits(name, rest, strategy)]
        if files:
            break
    else:
        raise InputError(_nothing(root, names, wanted))
    groups: dict[tuple[str, str], list[BidsName]] = {}
    for name in files:
        groups.setdefault((name.subject, name.session), []).append(name)
    return [name.scan() for group in groups.values() for name in _preferred(group)]


def _is_kind(name: BidsName, kind: dict[str, str]) -> bool:
    return all(getattr(name, key) == value for key, value in kind.items())


def _fits(name: BidsName, wanted: dict[str, str], strategy: str) -> bool:
    own = name.entities
    if "echo" in own and "echo" not in wanted:
        return False  # fMRIPrep's combination of the echoes has no echo in its name
    if own.get("part", "mag") != "mag" and "part" not in wanted:
        return False
    if name.suffix == "timeseries" and not {"atlas", "seg"} & set(own):
        return False  # confounds, motion
    if name.extension in (".nii", ".nii.gz"):
        if "space" not in wanted and not _is_mni(name):
            return False
        if "desc" not in wanted:
            aroma = own.get("desc") == "smoothAROMAnonaggr"
            return aroma == (strategy == "ica_aroma")
    return True


def _is_mni(name: BidsName) -> bool:
    return name.entities.get("space", "").startswith("MNI")


def _nothing(root: Path, names: Sequence[BidsName], wanted: dict[str, str]) -> str:
    """Return the sentence that says why no scan was found."""
    chosen = "".join(f" with bids.{key}={value}" for key, value in wanted.items())
    images = [n for n in names if n.suffix == "bold" and n.extension.endswith((*IMAGES, ".gii"))]
    spaces = sorted({_space(name) for name in images if not _is_mni(name)})
    if images and any(_is_mni(name) for name in images):
        kinds = sorted({f"desc-{n.entities.get('desc', '?')}" for n in images if _is_mni(n)})
        return (
            f"no image below {root}{chosen} can be taken (found: {', '.join(kinds)}, single echoes "
            "or phases): choose with bids.desc=, bids.echo= or bids.part="
        )
    if images:
        return (
            f"no image in an MNI space below {root}{chosen} (found: {', '.join(spaces)}): run "
            "fMRIPrep with --output-spaces MNI152NLin6Asym, or choose one with bids.space=..."
        )
    return (
        f"no scan below {root}{chosen} is named like BIDS derivatives: "
        "sub-*_space-MNI*_desc-preproc_bold.nii.gz"
    )


def _space(name: BidsName) -> str:
    space = name.entities.get("space")
    return f"space-{space}" if space else "no space, as it was scanned"


def _preferred(group: list[BidsName]) -> list[BidsName]:
    """Return the best of the files of one scan; all of them if they differ in another way."""

    def rank(item: BidsName) -> tuple[int, int]:
        space, description = item.entities.get("space", ""), item.entities.get("desc", "")
        return (
            _DESCRIPTIONS.index(description) if description in _DESCRIPTIONS else 9,
            _SPACES.index(space) if space in _SPACES else 9,
        )

    best = min(rank(item) for item in group)
    return [item for item in group if rank(item) == best]
