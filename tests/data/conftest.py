import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def make_study():
    """Return the function that writes a small study as fMRIPrep would leave it."""
    pytest.importorskip("nibabel", reason="needs fmrilm[imaging]")
    spec = importlib.util.spec_from_file_location("make_study", EXAMPLES / "make_study.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_study
