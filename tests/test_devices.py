"""Where models run and in which precision is chosen in one place, and said if it cannot be."""

import numpy as np
import pytest
import torch

from fmrilm.errors import InputError
from fmrilm.lm.fmrilm import FMRILM
from fmrilm.weights import choose_device, choose_dtype

GPU = torch.cuda.is_available()


def test_automatic_is_a_gpu_where_there_is_one():
    assert choose_device("auto").type == ("cuda" if GPU else "cpu")
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32


@pytest.mark.parametrize("name", ["tpu9", "cuda:99"])
def test_a_device_that_is_not_there_is_one_sentence(name):
    with pytest.raises(InputError, match="give auto, cpu or cuda"):
        choose_device(name)


def test_an_unknown_type_is_one_sentence():
    with pytest.raises(InputError, match="float32, bfloat16"):
        choose_dtype("int4")


def test_a_language_model_in_bfloat16_answers_nearly_alike_and_the_tokenizer_stays_exact(runs):
    whole = FMRILM.from_pretrained(runs["instruct"])
    half = FMRILM.from_pretrained(runs["instruct"], dtype="bfloat16")
    assert {p.dtype for p in half.lm.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in half.tokenizer.parameters()} == {torch.float32}
    config = whole.tokenizer.config
    fmri = torch.randn(3, config.num_rois, config.num_timestamp)
    assert torch.equal(whole.tokenizer.tokenize(fmri), half.tokenizer.tokenize(fmri))
    questions = [("<|scan|>\nWhat is the sex?", ["Male", "Female"])]
    one, two = (m.ask(fmri, None, questions)[0].softmax(-1) for m in (whole, half))
    np.testing.assert_allclose(one.numpy(), two.numpy(), atol=0.02)
    assert half.generate(fmri, None, ["<|scan|>\nWhat?"] * 3, max_new_tokens=2)


def test_an_evaluation_says_in_which_precision_it_was_made(runs, tmp_path):
    import json

    from fmrilm.evaluation.evaluate import evaluate

    options = {"baselines": "none", "free_text": False, "scrutiny": False, "samples": 0}
    evaluate([str(runs["instruct"])], output=str(tmp_path), dtype="bfloat16", **options)
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["made_from"]["settings"]["dtype"] == "bfloat16"


def test_the_tokenizer_is_evaluated_where_it_is_asked_to_be(runs, tmp_path):
    from fmrilm.evaluation.evaluate import evaluate

    with pytest.raises(InputError, match="give auto, cpu or cuda"):
        evaluate([str(runs["tokenizer"])], output=str(tmp_path), device="tpu9")
    evaluate([str(runs["tokenizer"])], output=str(tmp_path), device="cpu")
    assert (tmp_path / "tokenizer.json").is_file()


def test_estimators_load_a_run_once_per_process(runs, monkeypatch):
    from sklearn.base import clone

    from fmrilm.sklearn import FMRILMTransformer, _load

    _load.cache_clear()
    loaded = []
    original = FMRILM.from_pretrained
    monkeypatch.setattr(
        FMRILM, "from_pretrained", lambda *a, **k: loaded.append(1) or original(*a, **k)
    )
    estimator = FMRILMTransformer(runs["instruct"])
    scans = np.random.default_rng(0).standard_normal((4, 12, 20)).astype(np.float32)
    vectors = [clone(estimator).fit(scans).transform(scans) for _ in range(5)]
    assert len(loaded) == 1
    np.testing.assert_array_equal(vectors[0], vectors[4])
