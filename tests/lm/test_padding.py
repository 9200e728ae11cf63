"""A scan that is too short is padded and masked: what is added changes nothing."""

import numpy as np
import pytest
import torch

from fmrilm.cohort.cohort import Cohort
from fmrilm.config.schema import TokenizerConfig
from fmrilm.errors import InputError
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.reporting.report import report
from fmrilm.tokenizer.encoder import connectivity
from fmrilm.tokenizer.losses import connectivity_loss, reconstruction_loss, spectral_loss
from fmrilm.tokenizer.saved import build_tokenizer
from fmrilm.tokenizer.tokenizer import FMRITokenizer
from fmrilm.training.build import train_stage
from fmrilm.training.data.collate import collate_scans
from fmrilm.training.data.dataset import ScanDataset
from small import POINTS, TINY_MODEL, make_cohort

SIZE = {"num_rois": 5, "enc_cls": "vit_tiny", "n_embd": 16, "n_layer": 2, "n_head": 2}
OPTIONS = {**SIZE, "codebook_size": 32, "code_dim": 8, "patch_size": 8}


def padded(points: int = 16, total: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Two scans of 5 regions and ``points`` samples; what follows is rubbish, masked."""
    torch.manual_seed(1)
    mask = torch.ones(2, 5, total, dtype=torch.bool)
    mask[:, :, points:] = False
    mask[0, 3] = False
    return torch.randn(2, 5, total), mask


def test_a_padded_scan_has_the_features_of_the_short_one():
    torch.manual_seed(0)
    long = FMRITokenizer(TokenizerConfig(num_timestamp=24, **OPTIONS)).eval()
    short = FMRITokenizer(TokenizerConfig(num_timestamp=16, **OPTIONS)).eval()
    state = {
        k: v[:2] if k in ("step_embed", "decoder_step_embed") else v
        for k, v in long.state_dict().items()
    }
    short.load_state_dict(state)
    x, mask = padded()
    regions = mask[:, :, 0]
    usable = short.token_mask(regions)
    expected = short.encode(x[:, :, :16], regions)
    torch.testing.assert_close(long.encode(x, mask)[:, :10][usable], expected[usable])
    assert torch.equal(long.token_mask(mask)[:, :10], usable)
    assert not long.token_mask(mask)[:, 10:].any()
    back = long.reconstruct(x, mask)
    assert (back[~mask] == 0).all()
    torch.testing.assert_close(
        back[:, :, :16], short.reconstruct(x[:, :, :16], regions), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("latents", [None, 4])
def test_what_stands_in_the_padding_changes_nothing(latents):
    config = TokenizerConfig(num_timestamp=24, num_latent_tokens=latents, **OPTIONS)
    tokenizer = build_tokenizer(config).eval()
    x, mask = padded(points=13)  # ends in the middle of a patch
    other = torch.where(mask, x, 7.0)
    valid = tokenizer.token_mask(mask)
    torch.testing.assert_close(
        tokenizer.encode(x, mask)[valid], tokenizer.encode(other, mask)[valid]
    )
    y = torch.randn_like(x)
    for loss in (
        lambda x, y: reconstruction_loss(y, x, mask, "mse"),
        lambda x, y: connectivity_loss(y, x, mask),
        lambda x, y: spectral_loss(y, x, mask),
    ):
        torch.testing.assert_close(loss(x, y), loss(other, torch.where(mask, y, -3.0)))


def test_connectivity_of_a_padded_scan_is_that_of_its_real_samples():
    x, mask = padded()
    expected = connectivity(x[:, :, :16], mask[:, :, 0], 16)
    torch.testing.assert_close(connectivity(x, mask, 24), expected)


def shorten(folder, lengths):
    """Cut the scans of a cohort to the given lengths, in turn."""
    import h5py

    with h5py.File(folder / "data_resampled.h5", "r+") as file:
        group = file["time_series"]
        for i in range(len(group)):
            values = group[f"sample_{i}"][()]
            attributes = dict(group[f"sample_{i}"].attrs)
            del group[f"sample_{i}"]
            made = group.create_dataset(f"sample_{i}", data=values[:, : lengths[i % len(lengths)]])
            made.attrs.update(attributes)
    return folder


def test_scans_of_mixed_lengths_make_one_batch(tmp_path):
    cohort = Cohort(shorten(make_cohort(tmp_path / "c", subjects=6), (20, 13)))
    dataset = ScanDataset([cohort], [(0, i) for i in range(4)], POINTS, "pad")
    batch = collate_scans([dataset[i] for i in range(4)])
    assert batch["fmri"].shape == batch["roi_mask"].shape == (4, 12, 20)
    assert batch["roi_mask"][0].all()
    assert batch["roi_mask"][1, 0].tolist() == [True] * 13 + [False] * 7
    whole = collate_scans([dataset[i] for i in (0, 2)])
    assert whole["roi_mask"].shape == (2, 12)
    with pytest.raises(InputError, match=r"sample_1 has 13 time points.*data.length=pad"):
        ScanDataset([cohort], [(0, 1)], POINTS)[0]


def test_short_scans_go_through_all_stages_and_the_evaluation(tmp_path):
    from fmrilm.description.describe import describe

    folder = shorten(make_cohort(tmp_path / "c"), (20, 13, 16))
    describe(folder, types="fc")
    options = [*TINY_MODEL, f"data.dataset_dir=[{folder}]", "data.length=pad", "train.epochs=1"]
    run = None
    for stage in ("tokenizer", "align", "instruct"):
        run = train_stage(stage, options, output=tmp_path / stage, init=run)
    [result] = evaluate([str(run)], split="val", scrutiny=False)
    assert np.isfinite(result.predictors["model"].metrics["auc"].value)
    report([str(run)], output=str(tmp_path / "report.html"))
    assert "Codebook use" in (tmp_path / "report.html").read_text()
