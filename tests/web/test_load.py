"""Fifty clients at once: every answer comes, and the server adds little to what the model takes."""

import runpy
from pathlib import Path

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks/web.py"
CLIENTS, QUESTIONS = 50, 2
LONGEST = 0.25  # seconds of the server's own, p95; 0.02 on two idle cores


@pytest.mark.slow
def test_fifty_clients_are_answered(place):
    measure = runpy.run_path(str(BENCHMARK))["measure"]
    times = measure(str(place / "run"), str(place / "cohort"), CLIENTS, QUESTIONS)
    assert times.failed == 0
    assert len(times.whole) == CLIENTS * QUESTIONS
    assert np.quantile(times.own, 0.95) < LONGEST
