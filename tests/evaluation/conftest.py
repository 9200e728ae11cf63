import pytest

from evaluation_helpers import ScanReader, make_cohort, make_run
from fmrilm.evaluation.runs import Run


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """A cohort in which sex is written into the connectivity."""
    return make_cohort(tmp_path_factory.mktemp("planted") / "toy")


@pytest.fixture
def model(monkeypatch):
    """What every run's model is in these tests."""
    reader = ScanReader()
    monkeypatch.setattr(Run, "load_model", lambda run: reader)
    return reader


@pytest.fixture
def run(tmp_path, planted, model):
    """A finished run on the planted cohort."""
    return make_run(tmp_path / "run", planted)
