"""Damaged HDF5 stores."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from fuzz.damage import ANY, BYTES, REFUSE, SAY, Rng, pick


def _samples(handle: h5py.File) -> list[str]:
    return sorted(handle["time_series"])


def _put(handle: h5py.File, name: str, value: object, **options: object) -> None:
    del handle[name]
    handle.create_dataset(name, data=value, **options)


def not_finite(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        for name in _samples(handle):
            handle[f"time_series/{name}"][1, 3] = pick(rng, [np.nan, np.inf, -np.inf])
    return REFUSE


def flat(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        for name in _samples(handle):
            values = handle[f"time_series/{name}"]
            values[...] = pick(rng, [0, 1, np.nan, 1e30, -1e30, 1e-40])
    return SAY


def huge(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        values = handle[f"time_series/{pick(rng, _samples(handle))}"]
        values[...] = values[...] * pick(rng, [1e30, 3e38, -1e20])
    return ANY


def shape(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        name = f"time_series/{pick(rng, _samples(handle))}"
        values = handle[name][...]
        kinds = [values[0], values[None], values[:0], values[:, :0], values[:, :1], values[:3],
                 values.T, np.float32(1), values[:, :2], np.vstack([values, values])]  # fmt: skip
        _put(handle, name, pick(rng, kinds))
    return ANY


def dtype(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        name = f"time_series/{pick(rng, _samples(handle))}"
        values = handle[name][...]
        pair = np.zeros(values.shape, [("a", "f4"), ("b", "i4")])
        kinds = [values.astype("S8"), values.astype(complex), values > 0, values.astype("i8"), pair,
                 values.astype("f8"), np.array("text", dtype=object)]  # fmt: skip
        _put(handle, name, pick(rng, kinds))
    return ANY


def bomb(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        name = f"time_series/{pick(rng, _samples(handle))}"
        del handle[name]
        shape = pick(rng, [(12, 10**11), (10**9, 10**3), (8, 10**11)])
        handle.create_dataset(name, shape, "f4", chunks=(1, 1024), compression="gzip")
    return REFUSE


def missing(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        names = [*(f"metadata/{name}" for name in handle["metadata"]), "metadata", "time_series",
                 f"time_series/{pick(rng, _samples(handle))}"]  # fmt: skip
        del handle[pick(rng, names)]
    return ANY


def as_group(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        names = [*(f"metadata/{name}" for name in handle["metadata"]),
                 f"time_series/{pick(rng, _samples(handle))}"]  # fmt: skip
        name = pick(rng, names)
        del handle[name]
        handle.create_group(name)
    return ANY


def as_dataset(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        _put(handle, pick(rng, ["metadata", "time_series"]), np.zeros(3))
    return REFUSE


def ids(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        name = f"metadata/{pick(rng, ['subjects', 'sessions', 'roi_ids', 'subjects'])}"
        if name not in handle:
            name = "metadata/subjects"
        words = [w.decode() if isinstance(w, bytes) else str(w) for w in handle[name][...]]
        odd = pick(
            rng,
            ["", "../../../x", "/etc/x", "a/b", "a\nb", "\t", "é", "=1+1", "x" * 5000, words[0]],
        )
        some = [odd, *words[1:]] if rng.random() < 0.5 else [*words[:-1], odd]
        kinds = [words[:-1], [*words, "more"], some, [odd] * len(words), [], [[w] * 2 for w in words],
                 np.arange(len(words)), np.full(len(words), np.nan), np.array(words, "S")]  # fmt: skip
        kind = pick(rng, kinds)
        if isinstance(kind, list):
            _put(handle, name, np.array(kind, dtype=object), dtype=h5py.string_dtype("utf-8"))
        else:
            _put(handle, name, kind)
    return ANY


def ids_not_utf8(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        count = len(handle["metadata/subjects"])
        _put(handle, "metadata/subjects", np.array([b"\xff\xfe%d" % i for i in range(count)]))
    return REFUSE


def t_r(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        value = pick(
            rng, [np.nan, np.inf, -2.0, 0.0, "two", [2.0, 3.0], [], 2000.0, 1e-9, 1e300, 2 + 1j]
        )
        _put(handle, "metadata/t_r", value)
    return ANY


def extra(path: Path, rng: Rng, canary: Path) -> str:
    names = [
        "checksums",
        "coverage",
        "facts",
        "fingerprints",
        "censored",
        "preparation",
        "atlas",
        "source",
    ]
    with h5py.File(path, "r+") as handle:
        name = f"metadata/{pick(rng, names)}"
        if name in handle:
            del handle[name]
        handle[name] = pick(
            rng, [np.zeros(2), np.zeros((3, 3)), "x", ["{", "x"], 1, np.zeros((20, 3)), "null"]
        )
    return ANY


def linked(path: Path, rng: Rng, canary: Path) -> str:
    secret = path.with_name("secret.h5")
    with h5py.File(secret, "w") as other:
        other["values"] = np.random.default_rng(0).standard_normal((12, 20)).astype("f4")
        other["words"] = ["a"] * 20
    with h5py.File(path, "r+") as handle:
        name = pick(
            rng, [f"time_series/{pick(rng, _samples(handle))}", "metadata/subjects", "metadata/t_r"]
        )
        shape, kind = handle[name].shape, rng.integers(3)
        del handle[name]
        target = "words" if "subjects" in name else "values"
        if kind == 0:
            handle[name] = h5py.ExternalLink(str(secret), target)
        elif kind == 1:
            handle[name] = h5py.SoftLink(pick(rng, [f"/{name}", "/nowhere", "/time_series"]))
            return ANY
        else:
            size = shape or (1,)
            with h5py.File(secret, "r+") as other:
                other["same_size"] = np.zeros(size, "f4")
            layout = h5py.VirtualLayout(size, "f4")
            layout[...] = h5py.VirtualSource(str(secret), "same_size", size)
            handle.create_virtual_dataset(name, layout)
    return REFUSE


def external_raw(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        name = f"time_series/{pick(rng, _samples(handle))}"
        shape = handle[name].shape
        del handle[name]
        handle.create_dataset(name, shape, "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    return REFUSE


def few(path: Path, rng: Rng, canary: Path) -> str:
    with h5py.File(path, "r+") as handle:
        for name in _samples(handle)[1:]:
            del handle[f"time_series/{name}"]
        for name in ("subjects", "sessions"):
            words = handle[f"metadata/{name}"][...][:1]
            _put(handle, f"metadata/{name}", words, dtype=h5py.string_dtype("utf-8"))
    return ANY


STORE = [not_finite, flat, huge, shape, shape, dtype, bomb, missing, as_group, as_dataset, ids, ids, ids,
         ids_not_utf8, t_r, extra, extra, linked, external_raw, few, *BYTES]  # fmt: skip
