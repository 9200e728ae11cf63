"""Small checkpoints as the original writes them, and what it computes from them.

Written from its formulas, without any class of this package: tokens are in the order of regions,
token n * S + s is region n at time patch s.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

R, P, D, DEPTH, HEADS = 6, 8, 24, 2, 3
CODES, CODE_DIM = 16, 5
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def rand(*shape, scale=0.3):
    return torch.randn(*shape) * scale


def linear(out, inside):
    return {"weight": rand(out, inside), "bias": rand(out)}


def norm(width):
    return {"weight": 1 + rand(width), "bias": rand(width)}


def put(prefix, layer):
    return {f"{prefix}.{name}": value for name, value in layer.items()}


def transformer(prefix, last, width=D, depth=DEPTH, qk_norm=False, gates=0, heads=HEADS):
    """Return the blocks and the last norm."""
    state = put(f"{prefix}{last}", norm(width))
    for i in range(depth):
        p = f"{prefix}blocks.{i}."
        state |= put(f"{p}norm1", norm(width)) | put(f"{p}norm2", norm(width))
        state |= put(f"{p}attn.qkv", linear(3 * width + gates, width))
        state |= put(f"{p}attn.proj", linear(width, width))
        state |= put(f"{p}mlp.fc1", linear(4 * width, width))
        state |= put(f"{p}mlp.fc2", linear(width, 4 * width))
        if qk_norm:
            state |= put(f"{p}attn.q_norm", norm(width // heads))
            state |= put(f"{p}attn.k_norm", norm(width // heads))
    return state


def encoder(prefix, last, **options):
    state = transformer(prefix, last, **options)
    state[f"{prefix}patch_embed.proj.weight"] = rand(D, 1, 1, P)
    state[f"{prefix}patch_embed.proj.bias"] = rand(D)
    state[f"{prefix}pos_embed"] = rand(1, R, D)
    return state


def two_layers(prefix, inside, middle, out):
    return put(f"{prefix}.0", linear(middle, inside)) | put(f"{prefix}.2", linear(out, middle))


def stage1_a(steps):
    state = encoder("VQ.encoder.", "norm") | transformer("VQ.decoder_raw.", "norm")
    state |= put("VQ.decoder_raw.patch_embed", linear(D, CODE_DIM))
    state["VQ.decoder_raw.pos_embed"] = rand(1, R, D)
    state |= two_layers("VQ.encode_task_layer", D, D, CODE_DIM)
    state |= two_layers("VQ.decode_task_layer_raw", steps * D, D, steps * P)
    state["VQ.quantize.embedding.weight"] = F.normalize(rand(CODES, CODE_DIM), dim=1) * 0.9
    state["VQ.quantize.embedding.cluster_size"] = torch.rand(CODES) + 1
    state["VQ.quantize.embedding.embed_avg"] = rand(CODES, CODE_DIM)
    state["VQ.quantize.embedding.initted"] = torch.ones(1)
    state |= put("domain_classifier.0", linear(8, 10)) | put("domain_classifier.2", linear(2, 8))
    state["wte.weight"] = rand(30, 10).bfloat16()
    return state


def stage1_b(qk_norm=True, gates=HEADS):
    options = {"qk_norm": qk_norm, "gates": gates}
    state = encoder("quantizer.encoder.", "ln_post", **options)
    state |= transformer("quantizer.decoder.", "ln_post", **options)
    state |= put("quantizer.decoder.decoder_embed", linear(D, CODE_DIM))
    state["quantizer.decoder.pos_embed"] = rand(1, R, D)
    state |= two_layers("quantizer.encoder.conv_out", D, D, CODE_DIM)
    state |= two_layers("quantizer.decoder.conv_out", D, D, P)
    state["quantizer.quantize.embedding.weight"] = rand(CODES, CODE_DIM)
    state |= put("x_proj", linear(10, D)) | put("domain_classifier.0", linear(8, 10))
    return state | {"wte.weight": rand(30, 10).bfloat16()}


def mae():
    state = encoder("", "norm") | {"cls_token": rand(1, 1, D), "mask_token": rand(1, 1, 16)}
    state |= put("decoder_embed", linear(16, D)) | put("decoder_norm", norm(16))
    state |= put("decoder_pred", linear(P, 16)) | {"decoder_pos_embed": rand(1, R, 16)}
    blocks = transformer("", "x", width=16, depth=1)
    return state | {f"decoder_{n}": v for n, v in blocks.items() if n.startswith("blocks.")}


# What the original computes ----------------------------------------------------------------------


def apply(state, prefix, x):
    return F.linear(x, state[f"{prefix}.weight"], state[f"{prefix}.bias"])


def normed(state, prefix, x, eps=1e-6):
    return F.layer_norm(x, x.shape[-1:], state[f"{prefix}.weight"], state[f"{prefix}.bias"], eps)


def run_blocks(state, prefix, x, last, eps=1e-6, qk_norm=False, gates=0):
    B, N, width = x.shape
    d = width // HEADS
    for i in range(DEPTH):
        p = f"{prefix}blocks.{i}."
        qkv = apply(state, f"{p}attn.qkv", normed(state, f"{p}norm1", x, eps))
        q, k, v = (part.view(B, N, HEADS, d) for part in qkv[..., : 3 * width].split(width, -1))
        if qk_norm:
            q, k = normed(state, f"{p}attn.q_norm", q), normed(state, f"{p}attn.k_norm", k)
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / d**0.5
        y = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v)
        if gates:
            y = y * torch.sigmoid(qkv[..., 3 * width :]).view(B, N, HEADS, -1)
        x = x + apply(state, f"{p}attn.proj", y.reshape(B, N, width))
        y = apply(state, f"{p}mlp.fc1", normed(state, f"{p}norm2", x, eps))
        x = x + apply(state, f"{p}mlp.fc2", F.gelu(y))
    return normed(state, f"{prefix}{last}", x, eps)


def encode(state, prefix, last, series, cls=None, **options):
    """Return features (B, R * S, D) of series (B, R, T), in the order of regions."""
    B, S = len(series), series.shape[2] // P
    weight = state[f"{prefix}patch_embed.proj.weight"].reshape(D, P)
    tokens = series.reshape(B, R, S, P) @ weight.T + state[f"{prefix}patch_embed.proj.bias"]
    tokens = (tokens + state[f"{prefix}pos_embed"].reshape(R, 1, D)).reshape(B, R * S, D)
    if cls is not None:
        tokens = torch.cat([cls.reshape(1, 1, D).expand(B, 1, D), tokens], 1)
    out = run_blocks(state, prefix, tokens, last, **options)
    return out if cls is None else out[:, 1:]


def task(state, prefix, x):
    return apply(state, f"{prefix}.2", torch.tanh(apply(state, f"{prefix}.0", x)))


def codes_of(vectors, codebook):
    return (vectors[..., None, :] - codebook).square().sum(-1).argmin(-1)


def reconstruct_a(state, features, steps):
    """Return code indices (B, R * S) and series (B, R, T)."""
    vectors = F.normalize(task(state, "VQ.encode_task_layer", features), dim=-1)
    codebook = state["VQ.quantize.embedding.weight"]
    indices = codes_of(vectors, codebook)
    x = apply(state, "VQ.decoder_raw.patch_embed", codebook[indices])
    x = x + state["VQ.decoder_raw.pos_embed"].reshape(R, 1, D).expand(R, steps, D).reshape(-1, D)
    x = run_blocks(state, "VQ.decoder_raw.", x, "norm")
    return indices, task(state, "VQ.decode_task_layer_raw", x.reshape(len(x), R, steps * D))


def reconstruct_b(state, features, steps, **options):
    vectors = task(state, "quantizer.encoder.conv_out", features)
    codebook = state["quantizer.quantize.embedding.weight"]
    indices = codes_of(vectors, codebook)
    x = apply(state, "quantizer.decoder.decoder_embed", codebook[indices])
    x = x + state["quantizer.decoder.pos_embed"].reshape(R, 1, D).expand(R, steps, D).reshape(-1, D)
    x = run_blocks(state, "quantizer.decoder.", x, "ln_post", eps=1e-5, **options)
    return indices, task(state, "quantizer.decoder.conv_out", x).reshape(len(x), R, steps * P)


def by_time(x, steps):
    """Return tokens (B, R * S, ...) in the order of time patches."""
    return x.unflatten(1, (R, steps)).transpose(1, 2).flatten(1, 2)


# Language models ---------------------------------------------------------------------------------


def language_model(folder: Path, family: str):
    """Write a tiny language model's folder and return the model and its text tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        PreTrainedTokenizerFast,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(
        ["user\n assistant\n Question: What? Answer: <fmri> </fmri>\n"], trainer
    )
    text_tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=special[0])
    vocab = len(text_tokenizer)
    if family == "gpt2":
        config = GPT2Config(vocab_size=vocab, n_embd=32, n_layer=2, n_head=4, n_positions=256)
        lm = GPT2LMHeadModel._from_config(config, attn_implementation="eager")
    else:
        text_tokenizer.chat_template = CHAT
        config = Qwen3Config(
            vocab_size=vocab,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            tie_word_embeddings=True,
        )
        lm = Qwen3ForCausalLM._from_config(config, attn_implementation="eager")
    for parameter in lm.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    config.save_pretrained(folder)
    text_tokenizer.save_pretrained(folder)
    return lm.eval(), text_tokenizer


def model_state(lm, layout, targets, rank, alpha, fmri_head=False):
    """Return the state of a whole model, and the language model as its adapters make it."""
    width = lm.get_input_embeddings().embedding_dim
    state = put("encode_transform_layer.0", linear(width, D))
    state["pos_embed.weight"] = rand(R, width)
    inner = "tokenizer." if layout == "A" else "tokenizer.encoder."
    state |= encoder(inner, "norm" if layout == "A" else "ln_post")
    if layout == "B":
        for name in ("weight", "bias"):
            key = f"patch_embed.proj.{name}"
            state[f"tokenizer.{key}"] = state[f"tokenizer.encoder.{key}"]
        state |= two_layers("tokenizer.encoder.conv_out", D, D, CODE_DIM)
    if fmri_head:
        state["llm.fmri_lm_head.weight"] = rand(CODES, width)
    prefix = "llm.base_model.base_model.model." if targets else "llm.base_model."
    merged = {}
    for name, value in lm.state_dict().items():
        merged[name] = value
        module, _, last = name.rpartition(".")
        if module.rpartition(".")[2] not in targets:
            state[prefix + name] = value
            continue
        state[f"{prefix}{module}.base_layer.{last}"] = value
        if last == "weight":
            is_conv = "c_attn" in module  # GPT-2 keeps its weights transposed
            out, inside = value.shape[::-1] if is_conv else value.shape
            a, b = rand(rank, inside), rand(out, rank)
            state[f"{prefix}{module}.lora_A.default.weight"] = a
            state[f"{prefix}{module}.lora_B.default.weight"] = b
            delta = alpha / rank * b @ a
            merged[name] = value + (delta.T if is_conv else delta)
    return state, merged


@torch.no_grad()
def logits_of(lm, text_tokenizer, state, layout, series, prompt_ids, delimiters=True):
    """Return the logits (B, L, V) of the original over scan and text, tokens by time patches.

    Parameters
    ----------
    lm : transformers model
        With adapters merged.
    prompt_ids : (list of int, list of int)
        Text in front of the scan with its delimiters, and behind it.
    """
    steps = series.shape[2] // P
    inner = "tokenizer." if layout == "A" else "tokenizer.encoder."
    features = encode(state, inner, "norm" if layout == "A" else "ln_post", series)
    scan = F.gelu(apply(state, "encode_transform_layer.0", features))
    scan = scan + state["pos_embed.weight"].repeat_interleave(steps, 0)  # (B, R * S, width)

    def ids(text):
        return text_tokenizer(text, add_special_tokens=False)["input_ids"]

    opening, closing = (ids("<fmri>"), ids("</fmri>")) if delimiters else ([], [])
    before, after = prompt_ids
    front, back = [*before, *opening], [*closing, *after]
    embed = lm.get_input_embeddings()
    x = torch.cat(
        [
            embed(torch.tensor(front, dtype=torch.long)).expand(len(series), -1, -1),
            scan,
            embed(torch.tensor(back)).expand(len(series), -1, -1),
        ],
        1,
    )
    a, n = len(front), R * steps
    position = [*range(a), *[a + i % steps for i in range(n)]]
    position += range(a + steps, a + steps + len(back))
    L = len(position)
    seen = torch.zeros(L, L, dtype=torch.bool)
    for i in range(L):
        for j in range(L):
            if a <= i < a + n and a <= j < a + n:  # two tokens of the scan
                seen[i, j] = (j - a) % steps <= (i - a) % steps
            else:
                seen[i, j] = j <= i
    bias = torch.zeros(1, 1, L, L).masked_fill(~seen, torch.finfo(torch.float32).min)
    out = lm(
        inputs_embeds=x, attention_mask=bias, position_ids=torch.tensor([position]), use_cache=False
    ).logits
    order = by_time(torch.arange(n)[None, :, None], steps).flatten() + a
    return out[:, [*range(a), *order.tolist(), *range(a + n, L)]]
