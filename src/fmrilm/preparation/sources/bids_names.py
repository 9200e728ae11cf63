"""Names of fMRIPrep's and XCP-D's files: entities, suffix, and the tables that belong to an image.

Names are read here and not with a BIDS library: ancpbids leaves out subjects like ``002_S_0295``
without a word, and pybids needs 8.5 s for 3,600 files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fmrilm.preparation.sources.read import ScanFile
from fmrilm.signals.timing import sidecar_t_r

# What tells the files of one run apart, not the runs.
_OF_FILE = ("space", "cohort", "res", "den", "desc", "atlas", "seg", "scale", "stat", "hemi",
            "label")  # fmt: skip
_CONFOUNDS = ("desc-confounds_timeseries", "desc-confounds_regressors")  # the latter: to 20.1
_MOTION = ("desc-filtered_motion", "motion")
_SKIPPED = ("sourcedata", "work")  # folders


@dataclass(frozen=True)
class BidsName:
    """A file and what its name says.

    Examples
    --------
    >>> name = BidsName(Path("sub-002_S_0295_ses-m06_task-rest_space-T1w_desc-preproc_bold.nii.gz"))
    >>> name.subject, name.session, name.suffix
    ('sub-002_S_0295', 'ses-m06_task-rest', 'bold')
    """

    path: Path

    @property
    def stem(self) -> str:
        """The name without its extension."""
        return self.path.name.split(".", 1)[0]

    @property
    def extension(self) -> str:
        """What follows the first point, with it."""
        return self.path.name[len(self.stem) :]

    @property
    def suffix(self) -> str:
        """The last word, which has no key."""
        return self.stem.rpartition("_")[2]

    @cached_property
    def entities(self) -> dict[str, str]:
        """Key to value, in the order of the name; a subject may hold underscores and hyphens."""
        body = self.stem.rpartition("_")[0]
        keys = list(re.finditer(r"(?:^|_)([a-z]+)-", body))
        ends = [match.start() for match in keys[1:]] + [len(body)]
        return {match[1]: body[match.end() : end] for match, end in zip(keys, ends, strict=False)}

    @property
    def subject(self) -> str:
        """The subject, with its key."""
        return f"sub-{self.entities['sub']}"

    @property
    def session(self) -> str:
        """All entities that tell runs apart, whatever other runs there are; ``1`` without any."""
        return "_".join(f"{key}-{value}" for key, value in self._of_run().items()) or "1"

    def _of_run(self) -> dict[str, str]:
        skipped = ("sub", *_OF_FILE)
        return {key: value for key, value in self.entities.items() if key not in skipped}

    def has(self, key: str, value: str) -> bool:
        """Whether an entity has a value; ``1`` and ``01`` are the same."""
        own = self.entities.get(key, "")
        if own.isdecimal() and value.isdecimal():
            return int(own) == int(value)
        return own == value

    def scan(self) -> ScanFile:
        """Return the scan with the files that belong to it, those that exist."""
        is_image = self.extension in (".nii", ".nii.gz")
        mask = self.path.with_name(
            re.sub(r"(_desc-[^_]+)?_bold$", "_desc-brain_mask.nii.gz", self.stem)
        )
        confounds, motion = self._beside(*_CONFOUNDS), self._beside(*_MOTION)
        is_clean = motion is not None and self.entities.get("desc") != "preproc"
        return ScanFile(
            self.subject,
            self.session,
            self.path,
            t_r=sidecar_t_r(self.path),
            mask=mask if is_image and mask.is_file() else None,
            confounds=None if is_clean else confounds,
            motion=motion,
            outliers=self._beside("outliers") if is_clean else None,
        )

    def _beside(self, *endings: str) -> Path | None:
        """Return the first table of the run that exists; some versions leave part or echo out."""
        for left_out in ((), ("part",), ("echo",), ("part", "echo")):
            kept = {key: value for key, value in self._of_run().items() if key not in left_out}
            words = [self.subject, *(f"{key}-{value}" for key, value in kept.items())]
            for ending in endings:
                path = self.path.with_name("_".join([*words, ending]) + ".tsv")
                if path.is_file():
                    return path
        return None


def bids_names(root: Path) -> Iterator[BidsName]:
    """Yield every file below ``root`` whose name begins with a subject; links are followed once."""
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(f for f in folders if f[0] != "." and f not in _SKIPPED)
        for name in sorted(names):
            if name.startswith("sub-"):
                item = BidsName(Path(folder, name))
                if "sub" in item.entities:
                    yield item
