"""An update from several small batches is that of the one large batch, objective by objective."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from torch.utils.data import DataLoader

from fmrilm.cohort.cohort import Cohort
from fmrilm.config.schema import AlignConfig, TrainConfig
from fmrilm.errors import InputError
from fmrilm.lm.fmrilm import FMRILM, build_fmrilm
from fmrilm.lm.text import IGNORED
from fmrilm.tasks import TASKS
from fmrilm.training.data.collate import DescriptionCollator, Question, QuestionCollator
from fmrilm.training.data.dataset import ScanDataset
from fmrilm.training.data.features import ScanFeatures
from fmrilm.training.stages.align import AlignObjective
from fmrilm.training.stages.instruct import InstructObjective
from fmrilm.training.trainer import train
from small import POINTS

SIZE = 8


def gradient(objective, batches, monkeypatch, folder) -> torch.Tensor:
    """Return the gradient of the one update that training makes of batches."""
    found: list[torch.Tensor] = []

    def note(self, *_, **__):
        grads = [p.grad.flatten() for group in self.param_groups for p in group["params"]
                 if p.grad is not None]  # fmt: skip
        found.append(torch.cat(grads).clone())

    monkeypatch.setattr(torch.optim.AdamW, "step", note)
    config = TrainConfig(
        epochs=1,
        gradient_accumulation_steps=len(batches),
        grad_clip=1e9,
        save_ckpt=False,
    )
    objective.export = lambda folder: folder.mkdir()
    loader = DataLoader(batches, batch_size=None)
    train(objective, loader, config, folder)
    assert len(found) == 1
    return found[0]


def items_of(folder) -> tuple[Cohort, ScanDataset, list]:
    cohort = Cohort(folder)
    rows = [(0, int(i)) for i in cohort.indices("train")[:SIZE]]
    dataset = ScanDataset([cohort], rows, POINTS)
    return cohort, dataset, [dataset[i] for i in range(SIZE)]


def plain(model: FMRILM) -> FMRILM:
    """Return a model in which nothing is random."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def check_same(objective, whole, parts, monkeypatch, tmp_path) -> None:
    names = [name for name in objective.weights if name in ("loss", "text_loss", "fmri2text_loss")]
    counts = [int(objective.prepare(part)[1][names[0]]) for part in parts]
    assert max(counts) > 2 * min(counts)  # otherwise the mean of means would do
    large = gradient(copy.deepcopy(objective), [whole], monkeypatch, tmp_path / "large")
    small = gradient(objective, parts, monkeypatch, tmp_path / "small")
    assert float(cosine_similarity(large, small, dim=0)) > 0.9999
    assert float((large - small).norm() / large.norm()) < 1e-4


@pytest.mark.parametrize("patch_size", [10, 20])
def test_stage_2_with_all_its_objectives(runs, cohort_folder, monkeypatch, tmp_path, patch_size):
    _, dataset, items = items_of(cohort_folder)
    model = FMRILM.from_pretrained(runs["align"] / "model")
    if patch_size == 20:  # one time patch: codes of masked tokens are predicted
        from dataclasses import replace

        from fmrilm.tokenizer.tokenizer import FMRITokenizer

        torch.manual_seed(0)
        config = replace(model.config.vq_model, patch_size=20)
        texts = ["Is it so? It is not so. Connectivity is low."] * 3
        model = build_fmrilm(model.config, FMRITokenizer(config).eval(), texts)
    texts = ["Low."] * (SIZE // 2) + ["Connectivity of the visual network is low, very low."] * 4
    collate = DescriptionCollator(model.text, texts, 40, asks_for_scans=True)
    for item in items[:3]:
        item["roi_mask"] = item["roi_mask"].clone()
        item["roi_mask"][:5] = False
    config = AlignConfig(0.3, 0.7, 1.0, 0.4)
    objective = AlignObjective(plain(model), config, ScanFeatures(model, dataset, max_bytes=0))
    torch.manual_seed(0)
    masked = torch.rand(SIZE, model.tokenizer.config.num_tokens) < 0.4
    given = objective.prepare

    def prepare(batch):  # the same tokens are masked in small batches as in the large one
        batch, counts = given({**batch, "masked": masked[batch["position"]]})
        if patch_size == 20:
            batch["masked"] = masked[batch["position"]]
            valid = model.tokenizer.token_mask(batch["roi_mask"])
            counts["fmri_only_loss"] = (valid & batch["masked"]).sum()
        return batch, counts

    objective.prepare = prepare
    torch.manual_seed(1)
    monkeypatch.setattr(torch, "randint", lambda high, size: torch.zeros(size, dtype=torch.long))
    batches = [collate(items), collate(items[:2]), collate(items[2:])]
    for batch in batches:
        batch["masked"] = masked[batch["position"]]
    check_same(objective, batches[0], batches[1:], monkeypatch, tmp_path)


@pytest.mark.parametrize("head", [False, True])
def test_stage_3_with_and_without_a_head(runs, cohort_folder, monkeypatch, tmp_path, head):
    _, dataset, items = items_of(cohort_folder)
    model = plain(FMRILM.from_pretrained(runs["align"] / "model"))
    if head:
        torch.manual_seed(0)
        model.cls_head = nn.Linear(model.roi_embed.shape[1], 3)
    tasks = [TASKS["sex"]] * 4 + [TASKS["AD"]] * 4
    questions = [Question(task, i % 2) for i, task in enumerate(tasks)]
    collate = QuestionCollator(model.text, questions, use_random_prompt=False)
    objective = InstructObjective(model, ScanFeatures(model, dataset, max_bytes=0))
    parts = [collate(items[:2]), collate(items[2:])]
    check_same(objective, collate(items), parts, monkeypatch, tmp_path)


def test_what_is_counted_is_what_the_losses_are_means_over(runs, cohort_folder):
    _, dataset, items = items_of(cohort_folder)
    model = plain(FMRILM.from_pretrained(runs["align"] / "model"))
    collate = DescriptionCollator(model.text, ["Low."] * SIZE, 40)
    objective = AlignObjective(model, AlignConfig(), ScanFeatures(model, dataset))
    batch, counts = objective.prepare(collate(items))
    assert int(counts["fmri2text_loss"]) == int((batch["labels"] != IGNORED).sum())
    assert int(counts["fmri_only_loss"]) == SIZE * 12  # the regions of the second patch
    assert set(objective.weights) <= set(counts)


def test_an_align_stage_without_any_objective_is_refused(runs, cohort_folder):
    _, dataset, _ = items_of(cohort_folder)
    model = FMRILM.from_pretrained(runs["align"] / "model")
    with pytest.raises(InputError, match="all weights of stage align are 0"):
        AlignObjective(model, AlignConfig(0.0, 0.0, 0.0, 0.0), ScanFeatures(model, dataset))
