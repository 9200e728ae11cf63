"""The text side of stage 1: a text's embedding is its own, and only real pairs are aligned."""

import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from fmrilm.cohort.cohort import DESCRIPTOR_FOLDER
from fmrilm.config.schema import TokenizerConfig, TokenizerStageConfig
from fmrilm.errors import InputError
from fmrilm.lm.embedding.descriptions import TextAlignment, embed_descriptions
from fmrilm.lm.embedding.ngrams import NgramEmbedder
from fmrilm.lm.text import TextEncoder, train_text_tokenizer
from fmrilm.tokenizer.tokenizer import FMRITokenizer
from fmrilm.training.build import train_stage
from fmrilm.training.stages.tokenizer import TokenizerObjective
from small import TINY_MODEL, make_cohort

KINDS = ["clip", "siglip", "soft_clip", "soft_siglip"]
SHORT = "Low connectivity."
LONG = "The default network is coupled to the visual network far more than usual, " * 3


def language_model(kind: str):
    text_tokenizer = train_text_tokenizer([SHORT, LONG], 300)
    torch.manual_seed(0)
    if kind == "gpt2":
        lm = GPT2LMHeadModel(
            GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)
        )
    else:
        wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
        lm = Qwen3ForCausalLM(
            Qwen3Config(vocab_size=300, num_key_value_heads=2, intermediate_size=64, **wide)
        )
    return lm, TextEncoder(text_tokenizer, 4)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_a_text_has_the_same_embedding_whatever_stands_beside_it(kind, pooling):
    lm, text = language_model(kind)
    alone = embed_descriptions(lm, text, [SHORT], pooling=pooling)
    beside = embed_descriptions(lm, text, [LONG, SHORT, LONG, SHORT], pooling=pooling)
    assert float(cosine_similarity(alone, beside[1:2])) == pytest.approx(1, abs=1e-5)
    assert torch.equal(beside[1], beside[3])
    assert torch.equal(beside[0], beside[2])
    assert not torch.allclose(beside[0], beside[1])


def test_phrases_of_the_same_text_are_the_same_bit_by_bit():
    texts = [f"{LONG} {i % 3} {SHORT}" for i in range(12)]
    found = NgramEmbedder(4).fit(texts).embed(texts)
    assert all(torch.equal(found[i], found[i + 3]) for i in range(9))


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_the_same_text_twice_does_not_tell_which_scan_has_which(kind):
    torch.manual_seed(0)
    alignment = TextAlignment(8, 12, 16, kind)
    texts = torch.randn(4, 12)
    texts[2] = texts[0]
    scans = torch.randn(4, 8)
    exchanged = scans[[2, 1, 0, 3]]
    torch.testing.assert_close(alignment(scans, texts), alignment(exchanged, texts))


@pytest.mark.parametrize("kind", KINDS)
def test_scans_without_a_description_are_neither_pulled_nor_pushed(kind):
    torch.manual_seed(0)
    alignment = TextAlignment(8, 12, 16, kind)
    texts, scans = torch.randn(6, 12), torch.randn(6, 8, requires_grad=True)
    alignment.fit(texts)
    mean = alignment.text_mean.clone()
    missing = texts.clone()
    missing[[1, 4]] = torch.nan
    loss = alignment(scans, missing)
    kept = [0, 2, 3, 5]
    torch.testing.assert_close(loss, alignment(scans[kept], texts[kept]))
    loss.backward()
    assert float(scans.grad[[1, 4]].abs().sum()) == 0
    assert float(scans.grad[kept].abs().sum()) > 0
    alignment.fit(missing)
    torch.testing.assert_close(alignment.text_mean, texts[kept].mean(0))
    assert not torch.equal(alignment.text_mean, mean)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_any_description_has_no_alignment_loss_and_finite_gradients(kind):
    config = TokenizerConfig(num_rois=4, num_timestamp=20, patch_size=10, n_embd=16, n_layer=1,
                             n_head=2, codebook_size=16, code_dim=4)  # fmt: skip
    texts = torch.randn(4, 12)
    texts[2:] = torch.nan
    settings = TokenizerStageConfig(clip_loss_type=kind, clip_dim=8)
    objective = TokenizerObjective(FMRITokenizer(config), settings, texts)
    batch = {
        "fmri": torch.randn(2, 4, 20),
        "roi_mask": torch.ones(2, 4, dtype=torch.bool),
        "description": torch.tensor([2, 3]),
    }
    losses = objective(batch)
    assert float(losses["clip_loss"].detach()) == 0
    losses["loss"].backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_training_says_how_many_scans_have_no_description(tmp_path, capsys):
    import pandas as pd

    from fmrilm.cohort.cohort import Cohort
    from fmrilm.description.describe import describe

    folder = make_cohort(tmp_path / "cohort", subjects=20)
    describe(folder, types="fc")
    cohort = Cohort(folder)
    path = folder / DESCRIPTOR_FOLDER / "fc_descriptors.csv"
    table = pd.read_csv(path, dtype={"subject_id": str, "session_id": str})
    train = cohort.table["subject_id"].iloc[cohort.indices("train")].tolist()
    table[~table["subject_id"].isin(train[:3])].to_csv(path, index=False)
    options = [*TINY_MODEL, f"data.dataset_dir=[{folder}]", "train.epochs=1"]
    capsys.readouterr()
    train_stage("tokenizer", options, output=tmp_path / "tok")
    said = capsys.readouterr().out
    assert f"3 of {len(train)} train scans have no description: left out of the alignment" in said
    table.iloc[:0].to_csv(path, index=False)
    with pytest.raises(InputError, match="no training scan has a description"):
        train_stage("tokenizer", options, output=tmp_path / "none")
