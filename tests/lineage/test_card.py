"""A damaged evaluation ends the model card in one sentence."""

import pytest

from evaluation_helpers import make_cohort, make_run
from fmrilm.errors import InputError
from fmrilm.lineage.card import METRICS, model_card


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"results": 3}', '{"results": [{"task": "sex"}]}']
)
def test_damaged_metrics_are_one_sentence(tmp_path, content):
    run = make_run(tmp_path / "run", make_cohort(tmp_path / "toy", n_subjects=40))
    assert "## Scores on held-out people" in model_card(run)
    (run / METRICS).parent.mkdir(exist_ok=True)
    (run / METRICS).write_text(content)
    with pytest.raises(InputError, match=r"metrics\.json .*run `fmrilm evaluate`") as error:
        model_card(run)
    assert "\n" not in str(error.value)
