"""Every option of fmrilm: frozen dataclasses, merged as defaults <- YAML files <- ``key=value``.

The YAML files of the original fMRI-LM load unchanged (:mod:`fmrilm.config.dialect`), and the flags
of its documented commands are accepted through :mod:`fmrilm.config.flags`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fmrilm.config.checks import check_config
from fmrilm.config.dialect import translate
from fmrilm.config.layers import merge_layers, open_layers
from fmrilm.config.pairs import read_pair, to_tree
from fmrilm.errors import InputError
from fmrilm.readers import check_types, read_json, reading
from fmrilm.registry import suggest

TITOK, TITOK_TOKENS = "titok", 128  # its --quantizer titok, and tokens where none are given
PATHS = ("dataset_dir", "state_dir", "base_model", "text_corpus", "deepspeed")
SCAN_MARK = "<|scan|>"  # in a prompt, where the scan stands

SIGNAL_FAMILIES = 6  # tokens of fmrilm.lm.summary.families
EVIDENCE_SLOTS = 16  # questions whose readers speak to the language model

# name -> (width, depth, heads)
ENCODER_SIZES = {
    "vit_tiny": (96, 3, 4),
    "vit_small": (384, 12, 6),
    "vit_base": (768, 12, 12),
    "vit_large": (1024, 24, 16),
}


@dataclass(frozen=True)
class TokenizerConfig:
    """The fMRI tokenizer: ViT encoder, quantizer, decoder (``model.vq_model``)."""

    patch_size: int = 160  # time points per patch
    num_rois: int = 450  # regions in the series
    num_timestamp: int = 160  # time points the encoder reads
    enc_cls: str = "vit_base"  # vit_tiny | vit_small | vit_base | vit_large
    n_embd: int | None = None  # encoder width; None: the preset's
    n_layer: int | None = None  # encoder depth; None: the preset's
    n_head: int | None = None  # attention heads; None: the preset's
    dec_layer: int | None = None  # decoder depth; None: a third of the encoder's
    drop_path: float = 0.1  # probability of skipping a block in training
    dropout: float = 0.0  # dropout inside the MLPs
    attn_mode: str = "sdpa"  # sdpa | flash_attn | normal: all run torch's sdpa
    qk_norm: bool = False  # LayerNorm on the queries and keys of each head
    gate_attn: str = "none"  # none | headwise | elementwise: sigmoid gate on attention's output
    recompute: str = "none"  # none | cheap | all: what the backward pass computes again
    gradient_checkpointing: bool = False  # the same as recompute: all
    roi_embed: str = "learned"  # learned | coords: which region a token is of, by table or centroid
    roi_profile: bool = True  # add each region's connectivity profile to its token
    attention: str = "block_causal"  # block_causal | full: the time steps a token sees
    cls_token: bool = False  # a token of no region is read with the others, then left out
    data_start: bool = True  # start from a linear code (PCA) of the training scans, not from noise
    quantizer: str = "vq"  # an entry of the quantizer registry; none: an encoder alone, no codes
    code_head: str = "linear"  # linear | tanh: one layer in front of the codes, or two (VQ)
    code_distance: str = "cosine"  # cosine | euclidean: of unit vectors to their codes (vq)
    codebook_size: int = 8192  # number of codes (VQ)
    code_dim: int = 128  # width of a code (VQ)
    decay: float = 0.99  # EMA decay of the codebook (VQ)
    beta: float = 1.0  # weight of the commitment loss (VQ)
    fsq_levels: list[int] = field(default_factory=lambda: [8, 8, 8, 6, 5])  # levels (FSQ)
    num_quantizers: int = 2  # stages of residual FSQ (rfsq); codes are prod(levels) to this power
    output_head: str = "linear"  # linear | tanh | region: behind the decoder, per patch or region
    decoder_eps: float = 1e-6  # of the decoder's layer norms
    num_latent_tokens: int | None = None  # TiTok: this many tokens per scan instead of a grid

    @property
    def num_steps(self) -> int:
        """Time patches per scan."""
        return self.num_timestamp // self.patch_size

    @property
    def num_tokens(self) -> int:
        """Tokens per scan: regions x time patches, or the latent tokens of TiTok."""
        return self.num_latent_tokens or self.num_rois * self.num_steps

    @property
    def tokens_per_step(self) -> int:
        """Tokens that share a position in time: the regions, or all latent tokens."""
        return self.num_latent_tokens or self.num_rois

    @property
    def token_steps(self) -> int:
        """Steps in time that tokens tell apart: the patches, or one for latent tokens."""
        return self.num_tokens // self.tokens_per_step

    @property
    def size(self) -> tuple[int, int, int]:
        """Width, depth and heads of the encoder."""
        if self.enc_cls not in ENCODER_SIZES:
            raise InputError(
                f"unknown enc_cls {self.enc_cls!r}{suggest(self.enc_cls, list(ENCODER_SIZES))}; "
                f"known: {', '.join(ENCODER_SIZES)}"
            )
        width, depth, heads = ENCODER_SIZES[self.enc_cls]
        return self.n_embd or width, self.n_layer or depth, self.n_head or heads

    @property
    def decoder_depth(self) -> int:
        """Blocks of the decoder."""
        return self.dec_layer if self.dec_layer is not None else max(1, self.size[1] // 3)


@dataclass(frozen=True)
class LMConfig:
    """The causal language model and what joins it to the tokenizer (``model.lm``)."""

    base_model: str = "Qwen/Qwen3-0.6B"  # any causal LM of Hugging Face, a folder, or "tiny"
    num_fmri_tokens: int | None = None  # checked against num_rois x time patches when given
    num_rois: int | None = None  # checked against vq_model.num_rois when given
    fmri_vocab_size: int | None = None  # checked against codebook_size (VQ)
    fmri_input: str = "continuous"  # continuous | quantized: what the LM sees of a scan
    summary_tokens: int = 4  # tokens that sum up the whole scan, after its own; 0: none
    summary: str = "signals"  # signals | components: with signal families and readers, or without
    summary_components: int = 256  # principal components of a scan that they are made of
    summary_dropout: float = 0.0  # share of the components left out in training
    token_dropout: float = 0.0  # share of batches in which training shows the summary alone
    projector: str = "mlp"  # mlp | linear: norm and two layers, or one layer; GELU in both
    prompt_layout: str = "template"  # template | interleaved | prefix: where the scan stands
    use_fmri_lm_head: bool = True  # separate output head over fMRI codes
    add_fmri_delimiter: bool = True  # put <fmri> and </fmri> around the scan
    dropout: float = 0.0  # dropout on the projected scan
    peft_tune: bool = False  # LoRA instead of full fine-tuning
    freeze_llm: bool = False  # train only what surrounds the LM
    freeze_pretrained_lora: bool = False  # stack a second adapter in stage 3
    tune_tokenizer: bool = False  # let the LM's loss reach the fMRI encoder
    activations: str = "keep"  # keep | half (bfloat16) | recompute: for the LM's backward pass
    lora_r: int = 8  # rank of LoRA
    lora_alpha: int = 16  # scale of LoRA is alpha / r
    lora_dropout: float = 0.1  # dropout in front of LoRA
    lora_target_modules: list[str] | None = None  # None: peft's choice for the architecture
    use_cls_head: bool = False  # a linear head for classes or values beside the answers
    num_classes: int = 2  # outputs of that head
    temperature: float = 0.7  # of sampled generation
    top_p: float = 0.8  # of sampled generation
    top_k: int = 20  # of sampled generation
    tiny_width: int = 128  # width of the built-in LM (base_model: tiny)
    tiny_depth: int = 4  # layers of the built-in LM
    tiny_vocab: int = 2048  # at most this many text tokens of the built-in LM

    @property
    def num_summary_tokens(self) -> int:
        """All tokens that stand behind a scan's own: components, families, questions."""
        more = SIGNAL_FAMILIES + EVIDENCE_SLOTS if self.summary == "signals" else 0
        return self.summary_tokens + more if self.summary_tokens else 0


@dataclass(frozen=True)
class ModelConfig:
    """The whole model."""

    vq_model: TokenizerConfig = field(default_factory=TokenizerConfig)
    lm: LMConfig = field(default_factory=LMConfig)


@dataclass(frozen=True)
class DataConfig:
    """Which cohorts, and how a scan becomes an array."""

    dataset_dir: list[str] = field(default_factory=list)  # cohort folders
    norm: str | None = None  # scaling; None: what the cohort's own cohort.yaml says
    desc_type: list[str] = field(default_factory=lambda: ["fc"])  # descriptor families
    length: str = "clip"  # clip | random_clip: longer scans; pad: and shorter ones are masked
    cache: bool = True  # keep the series in memory
    cache_gb: float = 8.0  # most of it, 10^9 bytes in each process; what was used last stays
    # where our files on folders go that are not ours to write to; None: cohorts/ beside the run
    state_dir: str | None = None


@dataclass(frozen=True)
class TrainConfig:
    """The training loop, one for all stages."""

    epochs: int = 50
    batch_size: int = 16  # scans per step and process
    global_batch_size: int | None = None  # scans per update of all processes; sets batch_size
    gradient_accumulation_steps: int = 1
    lr: float = 1e-4  # peak learning rate
    min_lr: float | None = None  # at the end of the cosine; None: 1e-5, or a tenth of lr if less
    weight_decay: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.95
    warmup: float = 0.1  # share of the steps
    warmup_steps: int | None = None  # steps of it, instead
    schedule: str = "cosine"  # cosine | linear | constant: after the warm-up
    grad_clip: float = 1.0  # largest gradient norm
    # no | bf16 | fp16 | auto: bf16 where the hardware has it; None: of accelerate launch, else no
    mixed_precision: str | None = None
    parallel: str = "ddp"  # ddp | fsdp: several processes hold all weights each, or a part each
    deepspeed: str | None = None  # JSON file of DeepSpeed (ZeRO), instead
    tracker: str | None = None  # tensorboard | wandb | trackio, beside log.jsonl
    tracker_run: str | None = None  # the run's name at wandb and trackio
    num_workers: int = 0  # reading processes
    seed: int = 1337
    save_ckpt: bool = True  # keep checkpoints to resume from
    checkpoint_every: int = 1  # epochs between checkpoints
    select_best: bool = True  # export the epoch with the lowest validation loss

    @property
    def lowest_lr(self) -> float:
        """Learning rate at the end of the cosine."""
        return min(1e-5, self.lr / 10) if self.min_lr is None else self.min_lr


@dataclass(frozen=True)
class TokenizerStageConfig:
    """Stage 1: weights of the tokenizer's losses."""

    rec_loss: str = "mse"  # mse | smooth_l1
    fc_weight: float = 0.0  # reconstruction keeps the scan's connectivity
    profile_weight: float = 1.0  # tokens keep their region's connectivity profile
    spectral_weight: float = 0.0  # reconstruction keeps the amplitude of every frequency
    domain_weight: float = 0.0  # features that cannot be told from words (gradient reversal)
    clip_loss_type: str = "siglip"  # clip | siglip | soft_clip | soft_siglip
    pooling: str = "mean"  # mean | cls | map | regions: from a scan's tokens to one vector
    text_tower: str = "lm"  # lm: states of the frozen language model | ngrams: phrases of the texts
    text_pooling: str = "mean"  # mean | last: from a description's tokens to one vector
    clip_weight: float = 1.0  # 0: no alignment with text
    clip_dim: int = 512  # width of the shared space


@dataclass(frozen=True)
class AlignConfig:
    """Stage 2: weights of the language-model objectives."""

    text_only_weight: float = 0.1
    fmri_only_weight: float = 0.1
    fmri2text_weight: float = 1.0
    text2fmri_weight: float = 0.0  # codes of a scan from its description
    mask_ratio: float = 0.3  # masked codes of the fMRI-only loss when there is one time patch
    max_text_length: int = 600  # text tokens per description
    text_corpus: str | None = None  # of `fmrilm corpus build`, for text_only; None: descriptions


@dataclass(frozen=True)
class InstructConfig:
    """Stage 3: which questions, and what stands beside the scan."""

    tasks: list[str] = field(default_factory=list)  # [] : the targets of each dataset
    formats: list[str] = field(default_factory=lambda: ["single"])  # single | several | open
    balanced: bool = False  # training scans of rarer classes are shown more often
    add_src_info: bool = False  # put the cohort's sentence in front
    # participant columns told to the model; auto: the cohort's own text, less what reveals labels
    add_desc: list[str] = field(default_factory=list)
    use_allowed_tokens: bool = True  # answers are chosen among the task's own
    use_random_prompt: bool = True  # vary the wording in training
    fewshot_samples: int | None = None  # scans per class; None: all


@dataclass(frozen=True)
class DatasetConfig:
    """What is asked of one cohort (``dataset_config.yaml``)."""

    targets: list[str] = field(default_factory=list)
    description: str = ""  # sentence told to the model with add_src_info; "": the cohort's own
    is_multi: bool = False  # all questions of a scan in one conversation (stage 3)


@dataclass(frozen=True)
class TaskConfig:
    """A question declared in YAML: a target of a cohort (:mod:`fmrilm.tasks.declared`)."""

    question: str = ""
    kind: str = "classes"  # classes | ordered | number
    answers: dict[str, str] = field(default_factory=dict)  # label value -> answer, in order
    values: list[float] = field(default_factory=list)  # numbers that can be answered (number)
    column: str | None = None  # label column; None: the target's name
    paraphrases: list[str] = field(default_factory=list)  # []: made from the question
    reveals: list[str] = field(default_factory=list)  # other columns that give the answer away


@dataclass(frozen=True)
class Config:
    """Everything; the resolved copy lies in every run folder as ``config.yaml``."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    tokenizer: TokenizerStageConfig = field(default_factory=TokenizerStageConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    instruct: InstructConfig = field(default_factory=InstructConfig)
    datasets: dict[str, DatasetConfig] = field(default_factory=dict)
    tasks: dict[str, TaskConfig] = field(default_factory=dict)  # declared in YAML


def load_config(
    files: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    base: Config | None = None,
) -> Config:
    """Return the configuration merged from defaults, YAML files in order, and ``key=value`` pairs.

    Parameters
    ----------
    files : sequence of path
        YAML files; a later one wins.
    overrides : sequence of str
        ``section.key=value`` pairs; they win over every file.
    base : Config, optional
        What to start from instead of the defaults, e.g. the configuration of a parent run.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    InputError
        If a key is unknown, a value has the wrong type, or two values contradict each other.

    Examples
    --------
    >>> load_config(overrides=["train.lr=3e-4"]).train.lr
    0.0003
    """
    layers: list[tuple[str, Any]] = []
    for path in files:
        layers += [(name, translate(tree, name)[0]) for name, tree in open_layers(path)]
    for pair in overrides:
        if "=" not in pair:
            raise InputError(f"expected key=value, got {pair!r}")
        layers.append((pair, read_pair(pair, PATHS)))
    config = merge_layers(base if base is not None else Config, layers)
    assert isinstance(config, Config)
    vq = config.model.vq_model
    if vq.quantizer == TITOK:  # of the original: a way of making tokens, not of making codes
        count = vq.num_latent_tokens or TITOK_TOKENS
        vq = replace(vq, quantizer="vq", num_latent_tokens=count)
        config = replace(config, model=replace(config.model, vq_model=vq))
    check_config(config)
    return config


def read_model_config(path: Path, parts: Sequence[str]) -> ModelConfig:
    """Return what a model was built with, from the ``config.json`` beside its weights.

    Parameters
    ----------
    path : Path
    parts : sequence of str
        ``vq_model``, or ``vq_model`` and ``lm``.

    Raises
    ------
    InputError
        If it is damaged: a key is unknown, a value of another type or beyond its bounds.
    """
    from omegaconf import OmegaConf

    remedy = "restore it, or train again"
    saved = read_json(path, remedy)
    check_types(saved, dict.fromkeys(parts, dict), path, remedy)
    with reading(path, remedy):
        values = to_tree({part: saved[part] for part in parts}, str(path))
        merged = OmegaConf.merge(OmegaConf.structured(ModelConfig), values)
        config = OmegaConf.to_object(merged)
        assert isinstance(config, ModelConfig)
        check_config(Config(model=config))
    return config


def notes_on(files: Sequence[str | Path]) -> list[str]:
    """Return what YAML files of the original say that is read otherwise here, in sentences."""
    read = (layer for path in files for layer in open_layers(path))
    return [note for name, tree in read for note in translate(tree, name)[1]]


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration as YAML."""
    from omegaconf import OmegaConf

    Path(path).write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), encoding="utf-8")
