"""A hundred damaged inputs of the campaign (``python -m tests.fuzz.run``), the same ones each time."""

import os

import pytest

from fuzz.run import FAULTS, one
from fuzz.world import World, build

SEED, BATCHES, SIZE = 4242, 10, 10


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    """Outputs with odd names are relative: they must not land in the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_damaged_inputs_end_in_a_sentence(world: World, batch: int) -> None:
    before = os.getcwd()
    numbers = range(batch * SIZE, (batch + 1) * SIZE)
    outcomes = {number: one(world, SEED * 1_000_003 + number) for number in numbers}
    faults = {n: (o.kind, o.words, o.text) for n, o in outcomes.items() if o.kind in FAULTS}
    assert not faults
    assert any(o.kind == "sentence" for o in outcomes.values())
    assert os.getcwd() == before
