"""The known cohorts: one entry each. Anyone's own is a ``cohort.yaml`` in the cohort's folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from fmrilm.registry import Registry


@dataclass(frozen=True)
class CohortInfo:
    """What is known of a cohort before its data are opened (the keys of ``cohort.yaml``)."""

    name: str
    description: str  # one sentence, told to the model when add_src_info is on
    t_r: float = 2.0  # seconds, of the original acquisition
    targets: list[str] = field(default_factory=list)  # tasks asked of it by default
    norm: str = "robust_roi"  # scaling its store needs
    synthetic: bool = False  # made up by `fmrilm simulate`; shown wherever a result is shown
    source: str = ""  # where the series come from
    atlas: str = ""  # parcellation of a store that does not name its own


COHORTS: Registry[CohortInfo] = Registry("cohort")


def _known(name: str, t_r: float, targets: list[str], description: str) -> None:
    COHORTS.register(name)(CohortInfo(name, description, t_r, targets, atlas="schaefer400_tianS3"))


_known(
    "UKB",
    0.735,
    ["sex", "fluidintel_enc"],
    "This scan is from UK Biobank, a British population study of middle-aged and older adults.",
)
_known(
    "ABCD",
    0.8,
    ["sex"],
    "This scan is from ABCD, an American study of children who were nine to ten years old.",
)
_known(
    "HCP",
    0.72,
    ["sex"],
    "This scan is from the Human Connectome Project, healthy adults between 22 and 37 years.",
)
_known(
    "HCP-Aging",
    0.8,
    ["sex", "fluidintel_enc", "flanker_enc"],
    "This scan is from HCP-Aging, typically ageing adults from 36 to 100 years.",
)
_known(
    "ADNI",
    3.0,
    ["AD", "sex", "apoe4_enc"],
    "This scan is from ADNI, a study of ageing, mild cognitive impairment and Alzheimer's disease.",
)
_known(
    "ADHD200",
    2.0,
    ["ADHD"],
    "This scan is from ADHD-200, children and adolescents with and without ADHD.",
)
_known(
    "ABIDE2",
    2.0,
    ["ASD"],
    "This scan is from ABIDE II, people with and without autism between 5 and 64 years.",
)
