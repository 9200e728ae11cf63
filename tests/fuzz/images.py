"""Damaged NIfTI, CIFTI, NPY and MAT files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import h5py
import nibabel
import numpy as np
import scipy.io

from fuzz.damage import ANY, BYTES, REFUSE, Payload, Rng, gzip_bomb, pick


def _read(path: Path) -> bytearray:
    data = path.read_bytes()
    return bytearray(gzip.decompress(data) if path.name.endswith(".gz") else data)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else bytes(data))


def nifti_dim(path: Path, rng: Rng, canary: Path) -> str:
    data = _read(path)
    at = int(rng.integers(0, 8))
    struct.pack_into("<h", data, 40 + 2 * at, int(pick(rng, [0, -1, 1, 2, 32767, 7, 9, 30000])))
    _write(path, data)
    return ANY


def nifti_bomb(path: Path, rng: Rng, canary: Path) -> str:
    data = _read(path)
    struct.pack_into("<8h", data, 40, 4, 30000, 30000, 30000, 100, 1, 1, 1)
    _write(path, data)
    return REFUSE


def nifti_field(path: Path, rng: Rng, canary: Path) -> str:
    data = _read(path)
    kind, where = pick(rng, [("<f", 76 + 4 * i) for i in range(8)] + [("<f", 108), ("<f", 112), ("<f", 116)]
                       + [("<f", 280 + 4 * i) for i in range(12)] + [("<h", 252), ("<h", 254)])  # fmt: skip
    values = [0, -1, 3, 999] if kind == "<h" else [0.0, -1.0, np.nan, np.inf, 1e38, 1e-38, 2000.0]
    struct.pack_into(kind, data, where, pick(rng, values))
    _write(path, data)
    return ANY


def nifti_dtype(path: Path, rng: Rng, canary: Path) -> str:
    data = _read(path)
    struct.pack_into(
        "<hh",
        data,
        70,
        int(pick(rng, [0, 1, 2, 128, 32, 1792, 9999, -1, 64])),
        int(pick(rng, [0, 1, 8, 32, 64])),
    )
    _write(path, data)
    return ANY


def header_bytes(path: Path, rng: Rng, canary: Path) -> str:
    data = _read(path)
    for _ in range(int(rng.integers(1, 12))):
        data[int(rng.integers(0, min(len(data), 600)))] = int(rng.integers(256))
    _write(path, data)
    return ANY


def cut(path: Path, rng: Rng, canary: Path) -> str:
    data = _read(path)
    _write(path, data[: int(rng.integers(1, len(data) - 1))])
    return ANY


def nifti_values(path: Path, rng: Rng, canary: Path) -> str:
    image = nibabel.load(path)
    values = np.asarray(image.dataobj).astype(np.float32)
    kinds = [values * np.nan, values * np.inf, values * 0, values * 1e38, values[..., 0], values[..., :1],
             values[..., :2], values[:1], values[..., None]]  # fmt: skip
    nibabel.save(nibabel.Nifti1Image(pick(rng, kinds), image.affine), path)
    return ANY


def nifti_type(path: Path, rng: Rng, canary: Path) -> str:
    image = nibabel.load(path)
    values = np.asarray(image.dataobj)
    kind = pick(rng, [np.complex64, np.uint8, np.float64, "rgb"])
    if kind == "rgb":
        values = np.zeros(values.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    else:
        values = values.astype(kind)
    affine = pick(
        rng, [image.affine, np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1e9, 1, 1, 1])]
    )
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return ANY


NIFTI = [nifti_dim, nifti_dim, nifti_bomb, nifti_field, nifti_field, nifti_dtype, header_bytes, cut,
         nifti_values, nifti_values, nifti_type, gzip_bomb, *BYTES]  # fmt: skip


def cifti_xml(path: Path, rng: Rng, canary: Path) -> str:
    data = path.read_bytes()
    start, stop = data.index(b"<CIFTI"), data.index(b"</CIFTI>")
    old, new = pick(rng, [
        (b"SurfaceNumberOfVertices", b"SurfaceNumberOfVertexes"), (b"SECOND", b"HERTZ!"),
        (b"IndexCount", b"IndexCoumt"), (b"CIFTI_INDEX_TYPE", b"CIFTI_INDEX_TYPO"), (b">", b"<"),
        (b"BrainStructure", b"BrainStructurf"), (b"0", b"9"), (b"1", b"-"), (b"2", b"0"), (b"Matrix", b"Natrix"),
        (b"Label", b"Lable"), (b"Parcel", b"Parcle"), (b"SeriesStep", b"SeriesStop"),
    ])  # fmt: skip
    middle = data[start:stop].replace(old, new, pick(rng, [1, 2, -1]))
    path.write_bytes(data[:start] + middle + data[stop:])
    return ANY


def cifti_entities(path: Path, rng: Rng, canary: Path) -> str:
    data = path.read_bytes()
    start = data.index(b"<?xml") if b"<?xml" in data else data.index(b"<CIFTI")
    bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
    for above, below in zip("bcdefgh", "abcdefg", strict=True):
        bomb += f'<!ENTITY {above} "{f"&{below};" * 10}">'.encode()
    bomb += b"]><CIFTI>&h;</CIFTI>"
    path.write_bytes(data[:start] + bomb[: len(data) - start].ljust(len(data) - start))
    return ANY


CIFTI = [cifti_xml, cifti_xml, cifti_xml, cifti_entities, header_bytes, cut, nifti_dim, nifti_bomb, nifti_field,
         *BYTES]  # fmt: skip


def npy_values(path: Path, rng: Rng, canary: Path) -> str:
    values = np.load(path)
    kinds = [values * np.nan, values * np.inf, values * 0, values[0], values[None], values[:0], values[:, :3],
             values.T, np.float32(1), values.astype(complex), values.astype(str), values > 0, values * 1e38,
             np.zeros(values.shape, [("a", "f4")]), values.astype("datetime64[s]"), values[:1], values[:2],
             np.asfortranarray(values), values.astype(">f8"), values.astype("f2")]  # fmt: skip
    np.save(path, pick(rng, kinds))
    return ANY


def npy_pickle(path: Path, rng: Rng, canary: Path) -> str:
    np.save(path, np.array([Payload(canary)], dtype=object), allow_pickle=True)
    return REFUSE


def npy_header(path: Path, rng: Rng, canary: Path) -> str:
    data = path.read_bytes()
    old, new = pick(rng, [
        (b"(40, 8)", b"(10000000000, 8)"), (b"(40, 8)", b"(-40, 8)"), (b"(40, 8)", b"('x', 8)"),
        (b"<f4", b"|O"), (b"<f4", b"xxx"), (b"shape", b"shade"), (b"False", b"maybe"), (b"{", b"["),
        (b"(40, 8)", b"__import__('os')"), (b"\x01\x00", b"\x09\x09"), (b"(40, 8)", b"(40, 8, 10**9)"),
    ])  # fmt: skip
    path.write_bytes(data.replace(old, new, 1))
    return ANY


NPY = [npy_values, npy_values, npy_values, npy_pickle, npy_header, npy_header, *BYTES]


def mat_values(path: Path, rng: Rng, canary: Path) -> str:
    values = scipy.io.loadmat(path)["series"]
    cell = np.empty(2, dtype=object)
    cell[:] = [values, values]
    kinds = [{"series": values * np.nan}, {"series": values[0]}, {"series": values[None]}, {"a": values, "b": values},
             {"series": "text"}, {"series": cell}, {"series": {"x": values}}, {}, {"series": values + 1j},
             {"series": values[:, :3]}, {"series": values > 0}]  # fmt: skip
    scipy.io.savemat(path, pick(rng, kinds))
    return ANY


def mat_hdf5(path: Path, rng: Rng, canary: Path) -> str:
    values = scipy.io.loadmat(path)["series"]
    with h5py.File(path, "w", userblock_size=512) as handle:
        name = pick(rng, ["series", "#refs#", "other"])
        if rng.random() < 0.3:
            handle[name] = h5py.ExternalLink("/etc/passwd", "x")
        else:
            handle[name] = pick(rng, [values, values[0], values.astype("S"), values * np.nan])
    head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    path.write_bytes(head + path.read_bytes()[len(head) :])
    return ANY


MAT = [mat_values, mat_values, mat_hdf5, header_bytes, header_bytes, *BYTES]
