import json

import numpy as np
import pandas as pd
import pytest

from fmrilm.checks.audit import audit
from fmrilm.cohort.cohort import write_info
from fmrilm.cohort.labels import write_table
from fmrilm.cohort.store import write_store
from fmrilm.errors import InputError
from fmrilm.studies.known import CohortInfo
from fmrilm.tables.events import (
    Event,
    check_rest,
    free_stretches,
    from_text,
    overlaps,
    to_text,
)
from fmrilm.tasks import TASKS, Task

EVENTS = [Event("cue", 0.0, 4.0), Event("press", 10.0, 5.0)]


def test_a_window_shares_seconds_with_events_that_are_moved_by_the_delay():
    assert overlaps(0, 8, EVENTS, delay=0) == {"cue": 4.0}
    assert overlaps(0, 8, EVENTS, delay=5) == {"cue": 3.0}
    assert overlaps(8, 18, EVENTS, delay=5) == {"press": 3.0, "cue": 1.0}
    assert overlaps(0, 5, EVENTS) == {}


def test_two_events_of_a_kind_are_added_up():
    twice = [Event("cue", 0.0, 1.0), Event("cue", 2.0, 1.0)]
    assert overlaps(0, 10, twice, delay=0) == {"cue": 2.0}


def test_overlaps_are_read_back_from_the_table():
    for shared in ({}, {"cue": 3.0}, {"press": 11.0, "cue": 0.4}):
        assert from_text(to_text(shared)) == shared
    assert from_text(float("nan")) == {}
    with pytest.raises(InputError, match="write kind:seconds"):
        from_text("cue for a while")


def test_free_stretches_lie_before_between_and_after_events():
    assert free_stretches(EVENTS, 30, delay=0) == [6.0, 15.0]
    assert free_stretches(EVENTS, 30, delay=5) == [5.0, 6.0, 10.0]
    assert free_stretches([], 30) == [30]


def _samples():
    people = [f"sub-{i:02d}" for i in range(10)]
    return pd.DataFrame(
        {
            "participant_id": np.repeat(people, 2),
            "session_id": ["1", "2"] * 10,
            "calm": [0, 1] * 10,
            "events": ["none", "press:12.0"] * 10,
        }
    )


@pytest.fixture
def calm(monkeypatch):
    task = Task("calm", "calm", {"0": "rest", "1": "press"})
    monkeypatch.setitem(TASKS._entries, "calm", task)
    return task


def test_rest_that_overlaps_an_event_is_refused(calm):
    samples = _samples()
    check_rest(samples, [calm])
    samples.loc[4, "events"] = "press:0.5"
    with pytest.raises(InputError, match=r"1 windows labelled as rest .* sub-02 1, press:0.5"):
        check_rest(samples, [calm])
    check_rest(samples, [TASKS["stimulus"], TASKS["age"]])  # promise no rest


def test_the_audit_reports_rest_that_is_none_and_how_labels_go_with_events(calm, tmp_path, capsys):
    samples = _samples()
    rng = np.random.default_rng(0)
    scans = [
        (row.participant_id, row.session_id, rng.standard_normal((3, 8)))
        for row in samples.itertuples()
    ]
    store = tmp_path / "data_resampled.h5"
    write_store(store, scans, t_r=2, atlas="three", roi_ids=["a", "b", "c"], source="test")
    write_table(samples[["participant_id"]].drop_duplicates(), tmp_path / "participants.tsv")
    write_info(tmp_path, CohortInfo("mine", "A test.", targets=["calm"], norm="none"))
    samples.loc[0, "events"] = "press:3.0"
    write_table(samples, tmp_path / "samples.tsv")
    assert audit([str(tmp_path)], json=True) == 1
    found = {f["code"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found["rest_overlaps_event"]["level"] == "error"
    assert found["rest_overlaps_event"]["where"] == ["sub-00 1"]
    message = found["label_and_events"]["message"]
    assert "1 of 10 'rest' windows overlap event 'press' by 3.0 of 16 s" in message
    assert "every 'press' window overlaps event 'press' by 12.0 of 16 s" in message

    samples.loc[0, "events"] = "none"
    write_table(samples, tmp_path / "samples.tsv")
    assert audit([str(tmp_path)], json=True) == 0
