"""What is imported from fmrilm is there, documented, and costs nothing until it is used."""

import importlib
import subprocess
import sys

import pytest

import fmrilm

PROMISED = {
    "Atlas", "Cohort", "FMRILM", "FMRITokenizer", "FMRIProcessor", "Task", "prepare", "describe",
    "simulate", "train", "evaluate", "explain", "report", "doctor", "audit", "FMRILMClassifier",
    "FMRILMRegressor", "FMRILMTransformer", "FMRIPipeline",
}  # fmt: skip


@pytest.mark.parametrize("name", fmrilm.__all__)
def test_every_public_name_can_be_imported_and_is_documented(name):
    value = getattr(fmrilm, name)
    assert name == "__version__" or value.__doc__


def test_the_promised_names_are_among_them():
    assert set(fmrilm.__all__) >= PROMISED


def test_importing_the_package_loads_no_torch():
    code = "import sys, fmrilm; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        importlib.import_module("fmrilm").nothing  # noqa: B018
