"""A hostile checkpoint is refused by the name of what it asks for, and nothing of it runs."""

import argparse
import io
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from fmrilm.cli import main
from fmrilm.errors import InputError
from fmrilm.importing.checkpoint import import_checkpoint
from fmrilm.importing.restricted_pickle import read_checkpoint


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def write(path, data, protocol=2):
    """Write a checkpoint whose pickle is ``data``, or bytes."""
    raw = data if isinstance(data, bytes) else pickle.dumps(data, protocol)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", raw)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return path


def attacks(marker):
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "posix.system": Calls(os.system, touch),
        "os.popen": Calls(os.popen, touch),
        "builtins.eval": Calls(eval, code),
        "builtins.exec": Calls(exec, code),
        "io.open": Calls(open, str(marker), "w"),
        "builtins.getattr": Calls(getattr, "", "join"),
        "builtins.__import__": Calls(__import__, "os"),
        "subprocess.Popen": Calls(subprocess.Popen, ["touch", str(marker)]),
        "subprocess.check_output": Calls(subprocess.check_output, ["touch", str(marker)]),
        "pathlib.Path": b"\x80\x02cpathlib\nPath\n.",
        "torch.hub.load": b"\x80\x02ctorch.hub\nload\n(X\x01\x00\x00\x00atR.",
        "torch.load": b"\x80\x02ctorch\nload\n(X\x01\x00\x00\x00atR.",
        "torch.jit.load": b"\x80\x02ctorch.jit\nload\n(X\x01\x00\x00\x00atR.",
        "pickle.loads": Calls(pickle.loads, pickle.dumps(Calls(os.system, touch))),
        "functools.partial": b"\x80\x02cfunctools\npartial\n(cos\nsystem\ntR.",
        "os.system": b"\x80\x02cos\nsystem\nX\x05\x00\x00\x00true \x85R.",
        "nt.system": b"\x80\x02cnt\nsystem\n.",
        "runpy.run_path": b"\x80\x02crunpy\nrun_path\n.",
        "operator.attrgetter": b"\x80\x02coperator\nattrgetter\n.",
        "omegaconf.OmegaConf.load": b"\x80\x02comegaconf\nOmegaConf.load\n.",
    }


@pytest.mark.parametrize("name", attacks("x"))
@pytest.mark.parametrize("nested", [False, True])
def test_a_call_is_refused_by_name_and_not_made(tmp_path, name, nested):
    marker = tmp_path / "marker"
    attack = attacks(marker)[name]
    if nested and not isinstance(attack, bytes):
        attack = {"model": OrderedDict(a=[{"b": (1, attack)}])}
    path = write(tmp_path / "bad.pt", attack)
    with pytest.raises(InputError, match=f"refused: bad.pt asks for .*{name}"):
        import_checkpoint(path, output=tmp_path / "run")
    assert not marker.exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("protocol", [0, 1, 3, 4, 5])
def test_no_protocol_of_pickle_hides_a_name(tmp_path, protocol):
    marker = tmp_path / "marker"
    path = write(tmp_path / "bad.pt", {"model": Calls(os.system, f"touch {marker}")}, protocol)
    with pytest.raises(InputError, match="posix"):
        read_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93.",  # names by way of the memo
        b"\x80\x02\x82\x01.",  # a registered extension
        b"(S'true'\nios\nsystem\n.",  # INST
    ],
)
def test_names_are_found_however_they_are_put(tmp_path, data):
    with pytest.raises(InputError, match=r"os.system|extension 1"):
        read_checkpoint(write(tmp_path / "bad.pt", data))


@pytest.mark.parametrize("data", [b"", b"\x80\x02", b"garbage", b"\x80\x02]q\x00."])
def test_a_damaged_pickle_is_refused(tmp_path, data):
    with pytest.raises(InputError, match=r"refused|no checkpoint"):
        read_checkpoint(write(tmp_path / "bad.pt", data))


def test_a_list_in_itself_is_refused(tmp_path):
    content = {"a": []}
    content["a"].append(content["a"])
    with pytest.raises(InputError, match="refused"):
        read_checkpoint(write(tmp_path / "bad.pt", content))


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path):
    torch.save({"model": {"a": torch.zeros(4)}}, tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "bad.pt", "w") as archive:
        for name, data in parts.items():
            # the shape (4,) becomes (200,)
            archive.writestr(name, data.replace(b"K\x04\x85", b"K\xc8\x85"))
    with pytest.raises(InputError, match="refused"):
        read_checkpoint(tmp_path / "bad.pt")


def test_what_is_data_comes_out_as_plain_python(tmp_path):
    content = {
        "model": OrderedDict(w=torch.arange(6.0).view(2, 3)),
        "conf": OmegaConf.create({"a": {"b": [1, 2.5, "x", None]}, "c": True}),
        "args": argparse.Namespace(lr=1e-3, path=Path("a/b")),
        "best": np.float32(0.25),
        "epoch": np.int64(7),
        "rows": np.arange(4).reshape(2, 2),
        "lists": defaultdict(list, {"x": [1]}),
    }
    torch.save(content, tmp_path / "good.pt")
    read = read_checkpoint(tmp_path / "good.pt")
    assert torch.equal(read.pop("model")["w"], torch.arange(6.0).view(2, 3))
    assert read == {
        "conf": {"a": {"b": [1, 2.5, "x", None]}, "c": True},
        "args": {"lr": 1e-3, "path": "a/b"},
        "best": 0.25,
        "epoch": 7,
        "rows": [[0, 1], [2, 3]],
        "lists": {"x": [1]},
    }
    assert all(type(one) in (dict, float, int, list) for one in read.values())


def test_other_files_are_refused_in_a_sentence(tmp_path, capsys):
    old = tmp_path / "old.pt"
    torch.save({"model": {}}, old, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="zip format"):
        read_checkpoint(old)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), buffer)
    (tmp_path / "program.pt").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="TorchScript"):
        read_checkpoint(tmp_path / "program.pt")
    for name in ("old.pt", "absent.pt"):
        with pytest.raises(SystemExit) as ended:
            main(["import", str(tmp_path / name), "-o", str(tmp_path / "run")])
        assert ended.value.code == 2
    assert "not found" in capsys.readouterr().err
