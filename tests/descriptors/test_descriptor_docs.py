"""The examples of docs/guide/descriptors.md run as they stand."""

import re
from pathlib import Path

from descriptors.builders import NAMES, NETWORKS, make_scans
from fmrilm.atlases.atlas import Atlas
from fmrilm.descriptors import DESCRIPTORS

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "descriptors.md"


def test_examples_run():
    use, extend = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    atlas = Atlas.generic(len(NETWORKS))
    object.__setattr__(atlas, "networks", tuple(NETWORKS))
    object.__setattr__(atlas, "names", tuple(NAMES))
    scans = make_scans(6)
    names = {"atlas": atlas, "train_scans": scans[:4], "test_scans": scans[4:]}
    exec(use, names)
    assert len(names["texts"]) == 2
    try:
        exec(extend, names)
        family = DESCRIPTORS["level"](NETWORKS).fit(scans[:4])
        assert "lobal level is" in family.describe(scans[4:])[0]
    finally:
        DESCRIPTORS._entries.pop("level", None)


def test_every_family_is_documented():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in DESCRIPTORS)
