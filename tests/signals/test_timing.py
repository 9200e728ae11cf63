import json
from pathlib import Path

import pytest

from fmrilm.errors import InputError
from fmrilm.signals.timing import settle_t_r, sidecar_t_r

SCAN = Path("sub-1_bold.nii.gz")


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ({"header": 1000.0}, r"\(1000 ms\?\): set t_r="),  # nipreps/fmriprep 1725
        ({"sidecar": 2000.0}, r"outside 0.2 to 10 s \(2000 ms\?\): set t_r="),
        ({"sidecar": 2000.0, "header": 2.0}, "seconds and milliseconds are mixed up"),
        ({"sidecar": 2.0, "header": 2000.0}, "seconds and milliseconds are mixed up"),
        ({"header": 30.0}, "outside 0.2 to 10 s: set"),
        ({"header": 0.002}, "outside 0.2 to 10 s"),
        ({"sidecar": 50.0, "header": 30.0}, "outside 0.2 to 10 s"),
        ({"header": 1.0}, "exactly 1 s.*t_r=1 if it is right"),
        ({"setting": 720.0}, "outside 0.2 to 10 s"),
    ],
)
def test_a_tr_without_sense_is_refused_in_one_sentence(statements, message):
    with pytest.raises(InputError, match=message) as caught:
        settle_t_r(statements, SCAN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ({"sidecar": 0.72, "header": 30.0}, ("sidecar", 0.72)),
        ({"sidecar": 30.0, "header": 0.72}, ("header", 0.72)),
        ({"sidecar": 2.0, "header": 1.0}, ("sidecar", 2.0)),
        ({"setting": 1.0, "header": 1.0}, ("setting", 1.0)),
        ({"setting": 2.0, "sidecar": 2000.0}, ("setting", 2.0)),
        ({"sidecar": 1.0, "header": 1.0}, ("sidecar", 1.0)),
        ({"store": 1.0}, ("store", 1.0)),
    ],
)
def test_of_two_statements_the_one_with_sense_holds(statements, expected):
    source, value, notes = settle_t_r(statements, SCAN)
    assert (source, value) == expected
    assert len(notes) == (len(set(statements.values())) > 1)


def test_the_sidecar_says_the_tr_or_nothing(tmp_path):
    scan = tmp_path / "sub-1_bold.nii.gz"
    assert sidecar_t_r(scan) is None
    sidecar = tmp_path / "sub-1_bold.json"
    sidecar.write_text(json.dumps({"RepetitionTime": 0.8}))
    assert sidecar_t_r(scan) == 0.8
    for text in ("{", "[]", '{"RepetitionTime": "fast"}'):
        sidecar.write_text(text)
        with pytest.raises(InputError, match="correct the BIDS sidecar"):
            sidecar_t_r(scan)
