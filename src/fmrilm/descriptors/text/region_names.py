"""Labels of regions to names that a sentence can use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from fmrilm.descriptors.text.wording import NETWORK_NAMES, network_name

SIDES = {"LH": "left", "RH": "right", "lh": "left", "rh": "right", "L": "left", "R": "right"}
# Parts of the Schaefer labels (Schaefer et al. 2018), as in the atlas's own list of abbreviations.
PARTS = {
    "Cing": "cingulate",
    "FEF": "frontal eye field",
    "FrMed": "medial frontal",
    "FrOperIns": "frontal operculum and insula",
    "IPL": "inferior parietal",
    "Ins": "insula",
    "Med": "medial",
    "OFC": "orbitofrontal",
    "PCC": "posterior cingulate",
    "PFC": "prefrontal",
    "PFCd": "dorsal prefrontal",
    "PFCdPFCm": "dorsomedial prefrontal",
    "PFCl": "lateral prefrontal",
    "PFCld": "dorsolateral prefrontal",
    "PFClv": "ventrolateral prefrontal",
    "PFCm": "medial prefrontal",
    "PFCmp": "posterior medial prefrontal",
    "PFCv": "ventral prefrontal",
    "PHC": "parahippocampal",
    "Par": "parietal",
    "ParMed": "medial parietal",
    "ParOper": "parietal operculum",
    "Post": "posterior",
    "PrC": "precentral",
    "PrCd": "dorsal precentral",
    "PrCv": "ventral precentral",
    "RSC": "retrosplenial",
    "Rsp": "retrosplenial",
    "Temp": "temporal",
    "TempOcc": "temporo-occipital",
    "TempOccPar": "temporo-occipito-parietal",
    "TempPar": "temporoparietal",
    "TempPole": "temporal pole",
    "pCun": "precuneus",
    "pCunPCC": "precuneus and posterior cingulate",
}
WORDS = {"med": "medial", "lat": "lateral", "ant": "anterior", "post": "posterior"}


def region_name(label: str) -> str:
    """Return the name of a region in words.

    Understands Schaefer labels (``7Networks_LH_Default_pCunPCC_2``) and names that begin or end
    with a side (``hippocampus_head_med-rh``, ``L_IFsul``); any other is returned with spaces for
    underscores.

    Examples
    --------
    >>> region_name("7Networks_LH_Default_pCunPCC_2")
    'left default mode precuneus and posterior cingulate 2'
    >>> region_name("hippocampus_head_med-rh")
    'right hippocampus head medial'
    """
    schaefer = re.fullmatch(r"(?:\d+Networks_)?([LR]H)_([A-Za-z]+)((?:_\w+)?)", label)
    if schaefer and schaefer[2].rstrip("ABC") in NETWORK_NAMES:
        network = schaefer[2]
        words = [SIDES[schaefer[1]], network_name(network.rstrip("ABC"))]
        words += [PARTS.get(part, part) for part in schaefer[3].split("_") if part]
        return " ".join(words)
    sided = re.fullmatch(r"(?P<stem>.+)[-_ ](?P<side>[lr]h|[LR])", label) or re.fullmatch(
        r"(?P<side>[LR])[-_ ](?P<stem>.+)", label
    )
    stem, side = (sided["stem"], [SIDES[sided["side"]]]) if sided else (label, [])
    return " ".join([*side, *(WORDS.get(word, word) for word in re.split(r"[_\s]+", stem) if word)])


def region_names(labels: Sequence[str]) -> list[str]:
    """Return one name per region, each different: equal ones get their row number, from 1."""
    names = [region_name(label) for label in labels]
    count = Counter(names)
    return [
        f"{name or 'region'} {row + 1}" if count[name] > 1 or not name else name
        for row, name in enumerate(names)
    ]
