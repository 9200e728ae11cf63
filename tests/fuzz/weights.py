"""Damaged weights, checkpoints, and folders of language models that bring code along."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from fuzz.damage import ANY, BYTES, REFUSE, SAY, Payload, Rng, pick, pickled


def tensor(path: Path, rng: Rng, canary: Path) -> str:
    tensors = load_file(path)
    name = pick(rng, tensors)
    value = tensors[name]
    kind = rng.integers(8)
    if kind == 0:
        del tensors[name]
    elif kind == 1:
        tensors["other." + name] = tensors.pop(name)
    elif kind == 2:
        tensors["more"] = torch.zeros(3)
    elif kind == 3:
        tensors[name] = value.flatten()[:-1].clone()
    elif kind == 4:
        tensors[name] = value[None].clone()
    elif kind == 5:
        tensors[name] = value.to(torch.int64)
    elif kind == 6:
        tensors[name] = torch.zeros(0)
    else:
        return not_finite(path, rng, canary)
    save_file(tensors, path)
    return ANY


def not_finite(path: Path, rng: Rng, canary: Path) -> str:
    tensors = load_file(path)
    names = [name for name, value in tensors.items() if value.is_floating_point() and value.numel()]
    chosen = tensors[pick(rng, names)]
    chosen.view(-1)[int(rng.integers(chosen.numel()))] = pick(rng, [float("nan"), float("inf")])
    save_file(tensors, path)
    return SAY


def head(path: Path, rng: Rng, canary: Path) -> str:
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    text = data[8 : 8 + size]
    kind = rng.integers(4)
    if kind == 0:
        path.write_bytes(
            struct.pack("<Q", pick(rng, [0, 1, 2**40, 2**63, size - 1, size + 1])) + data[8:]
        )
    elif kind == 1:
        path.write_bytes(data[:8] + b"{" * size + data[8 + size :])
    elif kind == 2:
        path.write_bytes(data[:8] + text.replace(b"F32", b"F99").ljust(size) + data[8 + size :])
    else:
        other = text.replace(b'"data_offsets":[0,', b'"data_offsets":[4,', 1)
        path.write_bytes(data[:8] + other + data[8 + size :])
    return ANY


def as_torch(path: Path, rng: Rng, canary: Path) -> str:
    torch.save(pick(rng, [{"a": torch.zeros(2)}, [1], Payload(canary)]), path)
    return REFUSE


WEIGHTS = [tensor, tensor, tensor, not_finite, head, head, as_torch, *BYTES]


def metadata(path: Path, rng: Rng, canary: Path) -> str:
    """``.metadata`` of torch's distributed checkpoints is a pickle."""
    data = path.read_bytes()
    kind = rng.integers(4)
    if kind == 0:
        path.write_bytes(pickle.dumps(Payload(canary)))
    elif kind == 1:  # in front of what was there
        path.write_bytes(pickle.dumps(Payload(canary))[:-1] + b"0" + data[2:])
    elif kind == 2:
        path.write_bytes(pickle.dumps(pick(rng, [None, {}, [], 1, "x", {"model": 1}])))
    else:
        return pickled(path, rng, canary)
    return REFUSE


def shard(path: Path, rng: Rng, canary: Path) -> str:
    torch.save(Payload(canary), path)
    return REFUSE


def archive(path: Path, rng: Rng, canary: Path) -> str:
    """A checkpoint of the original that holds code, or nothing that is known."""
    content = pick(rng, [Payload(canary), {"model": Payload(canary)}, {"model": {"w": 1}}, [], {"model": None},
                         {"model": {1: torch.zeros(1)}}, torch.zeros(3), {"optimizer": {}}, {"model": {"a" * 9000: torch.zeros(1)}}])  # fmt: skip
    torch.save(content, path, _use_new_zipfile_serialization=bool(rng.integers(2)))
    return REFUSE


def code_in_folder(path: Path, rng: Rng, canary: Path) -> str:
    """``path`` is ``config.json`` or ``tokenizer_config.json`` of a language model."""
    tree = json.loads(path.read_text())
    (path.parent / "evil.py").write_text(
        f"import os\nos.system('touch {canary}')\nfrom transformers import GPT2Config as C, GPT2LMHeadModel as M\n"
        "from transformers import PreTrainedTokenizerFast as T\n"
    )
    names = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoModel": "evil.M"}
    tree["auto_map"] = (
        names if path.name == "config.json" else {"AutoTokenizer": ["evil.T", "evil.T"]}
    )
    if rng.random() < 0.5:
        tree["model_type"] = "evil"
        tree["tokenizer_class"] = "T"
    path.write_text(json.dumps(tree))
    return ANY


def template(path: Path, rng: Rng, canary: Path) -> str:
    """``path`` is ``tokenizer_config.json``: a chat template is a program."""
    tree = json.loads(path.read_text())
    code = f"__import__('os').system('touch {canary}')"
    tree["chat_template"] = pick(rng, [
        "{{ cycler.__init__.__globals__.os.system('touch " + str(canary) + "') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{% for %}", "{{ 1/0 }}", "{{ nope.x }}",
        "{{ self.__init__.__globals__.__builtins__.eval(\"" + code + "\") }}", "", 1,
        "{% for i in range(10**9) %}{% for j in range(10**9) %}x{% endfor %}{% endfor %}",
    ])  # fmt: skip
    path.write_text(json.dumps(tree))
    return ANY


def pickle_beside(path: Path, rng: Rng, canary: Path) -> str:
    """Weights in a pickle where the safetensors were."""
    path.with_name("pytorch_model.bin").write_bytes(pickle.dumps(Payload(canary)))
    path.unlink()
    return ANY
