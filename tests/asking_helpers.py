"""A study of images, the cohort made of it and a run trained on it, built once per session."""

import pytest

MODEL = [
    "model.vq_model.enc_cls=vit_tiny", "model.vq_model.n_embd=16", "model.vq_model.n_head=2",
    "model.vq_model.n_layer=1", "model.vq_model.num_rois=24", "model.vq_model.num_timestamp=40",
    "model.vq_model.patch_size=20", "model.vq_model.codebook_size=32", "model.vq_model.code_dim=8",
    "model.lm.base_model=tiny", "train.epochs=1", "train.batch_size=8", "data.desc_type=[fc]",
    "instruct.tasks=[sex,age]",
]  # fmt: skip


@pytest.fixture(scope="session")
def place(make_study, tmp_path_factory):
    """A study of images, the cohort made of it, and a run trained and evaluated on it."""
    pytest.importorskip("nilearn", reason="needs fmrilm[imaging]")
    from fmrilm.description.describe import describe
    from fmrilm.evaluation.evaluate import evaluate
    from fmrilm.preparation.prepare import prepare
    from fmrilm.training.build import train_stage

    root = tmp_path_factory.mktemp("asking")
    make_study(root / "study", subjects=40)
    settings = [f"atlas={root}/study/atlas.tsv", f"atlas_image={root}/study/atlas.nii.gz",
                "n_timepoints=40", "strategy=simple"]  # fmt: skip
    prepare(str(root / "study/derivatives/fmriprep"), settings, output=str(root / "cohort"))
    describe(str(root / "cohort"), types="fc", gallery=0)
    options = [*MODEL, f"data.dataset_dir=[{root}/cohort]"]
    tok = train_stage("tokenizer", options, output=root / "tok")
    align = train_stage("align", options, output=root / "align", init=tok)
    train_stage("instruct", options, output=root / "run", init=align)
    evaluate([str(root / "run")], baselines="none", free_text=False, scrutiny=True)
    return root


def image(place, subject):
    return next((place / "study").rglob(f"{subject}_*desc-preproc_bold.nii.gz"))
