"""What a run has seen is never read as nothing."""

import pytest

from fmrilm.errors import InputError
from fmrilm.lineage.trained_on import TRAINED_ON_FILE, read_trained_on


def test_a_table_that_is_cut_off_behind_its_header_is_refused(tmp_path):
    assert read_trained_on(tmp_path) is None
    header = "cohort\tparticipant_id\tsession_id\tsplit\tchecksum\n"
    (tmp_path / TRAINED_ON_FILE).write_text(header)
    with pytest.raises(InputError, match="names no scan"):
        read_trained_on(tmp_path)
    (tmp_path / TRAINED_ON_FILE).write_text(header + "toy\t01\t1\ttrain\tab\n")
    assert read_trained_on(tmp_path)["participant_id"].tolist() == ["01"]
