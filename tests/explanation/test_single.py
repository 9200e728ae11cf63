"""Where one answer about one scan comes from."""

import numpy as np
import pytest
import torch

from fmrilm.asking.pipeline import FMRIPipeline
from fmrilm.errors import InputError
from fmrilm.explanation.answers import log_odds
from fmrilm.explanation.single import Asked, explain_answer


@pytest.fixture(scope="module")
def pipeline(place):
    return FMRIPipeline(place / "run")


def asked_of(pipeline, place, answer, task="sex"):
    ready = next(pipeline.scans(f"{place}/cohort:sub-03"))
    known = {t.name: t for t in pipeline.tasks()}
    return Asked(
        known[task], pipeline.prompt(ready, known[task]), ready.fmri, ready.roi_mask, answer
    )


def test_the_shares_add_up_to_the_change_of_the_answer_that_is_given(pipeline, place):
    asked = asked_of(pipeline, place, "Female")
    steps = []
    origin = explain_answer(pipeline.model, asked, pipeline.processor.atlas, 32, steps.append)
    assert origin.shares.shape == (24,)
    gap = abs(origin.shares.sum() - origin.change)
    assert gap == pytest.approx(origin.error * abs(origin.change), rel=1e-4, abs=1e-6)
    assert origin.error < 0.1
    assert sum(origin.by_network(pipeline.processor.atlas).values()) == pytest.approx(
        origin.shares.sum(), abs=1e-5
    )
    assert steps == sorted(steps)
    assert steps[-1] == 1.0


def test_what_is_explained_is_the_log_odds_that_the_pipeline_scores(pipeline, place):
    asked = asked_of(pipeline, place, "Female")
    names = asked.task.candidates
    target = log_odds(pipeline.model, asked.prompt, names, names.index("Female"))
    with torch.no_grad():
        value = float(target(asked.fmri[None].float(), asked.roi_mask[None])[0])
        (scores,) = pipeline.model.ask(
            asked.fmri[None], asked.roi_mask[None], [(asked.prompt, names)]
        )
    p = scores[0].double().softmax(-1)[names.index("Female")].item()
    assert value == pytest.approx(np.log(p / (1 - p)), abs=1e-4)


def test_the_other_answer_rests_on_the_same_regions_with_the_opposite_sign(pipeline, place):
    atlas = pipeline.processor.atlas
    first, second = (
        explain_answer(pipeline.model, asked_of(pipeline, place, name), atlas, 8)
        for name in ("Male", "Female")
    )
    np.testing.assert_allclose(first.shares, -second.shares, atol=1e-4)


def test_what_a_step_raises_ends_the_work(pipeline, place):
    def stop(share):
        raise KeyboardInterrupt

    asked = asked_of(pipeline, place, None, "age")
    with pytest.raises(KeyboardInterrupt):
        explain_answer(pipeline.model, asked, pipeline.processor.atlas, 8, stop)


def test_an_answer_that_is_none_is_refused(pipeline, place):
    with pytest.raises(InputError, match="unknown answer"):
        explain_answer(
            pipeline.model, asked_of(pipeline, place, "Both"), pipeline.processor.atlas, 8
        )
