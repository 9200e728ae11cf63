"""The regions of a parcellation in row order: labels, names, networks, sides, centroids."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.errors import InputError
from fmrilm.files import replacing
from fmrilm.registry import suggest
from fmrilm.tables.text import read_columns

SHIPPED = files("fmrilm.atlases") / "tables"
_LABEL_COLUMNS = ("label", "index", "id")  # ours, BIDS dseg.tsv, others


@dataclass(frozen=True)
class Atlas:
    """An ordered table of regions; row ``i`` describes row ``i`` of a series.

    Parameters
    ----------
    name : str
        Of the parcellation, e.g. ``"schaefer400_tianS3"``.
    labels : tuple of str
        Unique id of each region: the value of its voxels in the label image.
    names : tuple of str
        What the region is called; need not be unique.
    networks : tuple of str
        Network of each region, empty where unknown.
    hemispheres : tuple of str
        ``"L"``, ``"R"`` or empty.
    centroids : ndarray, shape (n_rois, 3)
        MNI coordinates in mm, NaN where unknown.

    Examples
    --------
    >>> atlas = Atlas.load("schaefer400_tianS3")
    >>> len(atlas), atlas.networks[0], atlas.labels[50]
    (450, 'Subcortex', '51')
    """

    name: str
    labels: tuple[str, ...]
    names: tuple[str, ...]
    networks: tuple[str, ...]
    hemispheres: tuple[str, ...]
    centroids: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        centroids = np.asarray(self.centroids, dtype=float)
        object.__setattr__(self, "centroids", centroids)
        count = len(self.labels)
        if count == 0:
            raise InputError(f"atlas {self.name} has no regions")
        for values in (self.names, self.networks, self.hemispheres):
            if len(values) != count:
                raise ValueError(f"atlas {self.name}: {count} labels but {len(values)} values")
        if centroids.shape != (count, 3):
            raise ValueError(f"atlas {self.name}: centroids have shape {centroids.shape}")
        if len(set(self.labels)) < count:
            twice = next(label for label in self.labels if self.labels.count(label) > 1)
            raise InputError(f"atlas {self.name}: label {twice} occurs twice")

    def __len__(self) -> int:
        return len(self.labels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Atlas) and self.content_hash == other.content_hash

    def __hash__(self) -> int:
        return hash(self.content_hash)

    @property
    def content_hash(self) -> str:
        """Hash of labels, names and networks in order, whatever the atlas is called."""
        rows = zip(self.labels, self.names, self.networks, self.hemispheres, strict=True)
        return hashlib.sha256("\n".join("\t".join(row) for row in rows).encode()).hexdigest()[:16]

    @property
    def has_networks(self) -> bool:
        """Whether the regions are sorted into at least two networks."""
        return len(set(self.networks) - {""}) > 1

    @property
    def network_names(self) -> list[str]:
        """The networks, in the order in which they first occur."""
        return [name for name in dict.fromkeys(self.networks) if name]

    def members(self, network: str) -> np.ndarray:
        """Return the row numbers of a network's regions.

        Raises
        ------
        InputError
            If there is no such network.
        """
        if network not in self.network_names:
            raise InputError(
                f"atlas {self.name} has no network {network!r}"
                f"{suggest(network, self.network_names)}; it has: {', '.join(self.network_names)}"
            )
        return np.flatnonzero(np.array(self.networks) == network)

    def select(self, labels: Sequence[str]) -> Atlas:
        """Return the atlas of some regions, in the order of ``labels``.

        Raises
        ------
        InputError
            If a label is not in the atlas.
        """
        position = {label: row for row, label in enumerate(self.labels)}
        missing = [label for label in labels if label not in position]
        if missing:
            raise InputError(
                f"atlas {self.name} has no region {missing[0]} ({len(missing)} of {len(labels)} "
                "labels missing): give the atlas.tsv that belongs to the series"
            )
        rows = [position[label] for label in labels]
        return Atlas(
            self.name,
            tuple(labels),
            tuple(self.names[row] for row in rows),
            tuple(self.networks[row] for row in rows),
            tuple(self.hemispheres[row] for row in rows),
            self.centroids[rows],
        )

    @classmethod
    def generic(cls, labels: Sequence[str] | int, name: str = "unknown") -> Atlas:
        """Return an atlas of which only the labels (or their number) are known."""
        known = [str(i + 1) for i in range(labels)] if isinstance(labels, int) else list(labels)
        blank = ("",) * len(known)
        return cls(name, tuple(known), tuple(known), blank, blank, np.full((len(known), 3), np.nan))

    @classmethod
    def load(cls, name: str) -> Atlas:
        """Return a parcellation table that comes with fmrilm.

        Raises
        ------
        InputError
            If none is called ``name``.
        """
        if name not in shipped_atlases():
            raise InputError(
                f"unknown atlas {name!r}{suggest(name, shipped_atlases())}; shipped: "
                f"{', '.join(shipped_atlases())}; any other is a TSV file with label and name"
            )
        with as_file(SHIPPED / f"{name}.tsv") as path:
            return cls._from_table(name, read_columns(path), name)

    @classmethod
    def read(cls, path: str | Path, name: str | None = None) -> Atlas:
        """Return the atlas in a TSV file.

        Parameters
        ----------
        path : path
            Columns ``label`` (or ``index``, as in BIDS) and ``name``, or ``index`` and ``label`` as
            XCP-D writes them; optional ``network`` (or ``network_label``), ``hemisphere`` (L, R),
            ``x``, ``y``, ``z`` (MNI mm). The order of the rows is the order of the regions.
        name : str, optional
            Name of the atlas; None: that of the file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        InputError
            If a column is missing, or a label occurs twice.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found: a table of regions with label and name")
        return cls._from_table(name or path.stem, read_columns(path), str(path))

    @classmethod
    def _from_table(cls, name: str, table: pd.DataFrame, source: str) -> Atlas:
        columns = list(table.columns)
        key = next((column for column in _LABEL_COLUMNS if column in columns), None)
        name_column = "name"
        if "name" not in columns and {"index", "label"} <= set(columns):
            key, name_column = "index", "label"
        if key is None or name_column not in columns:
            raise InputError(
                f"{source} has the columns {', '.join(columns) or '(none)'}; an atlas needs "
                "label and name, separated by tabs"
            )
        rows = table.to_dict("records")

        def known(row: dict[Hashable, str], column: str) -> str:
            value = row.get(column, "")
            return "" if value == "n/a" else value

        def coordinate(row: dict[Hashable, str], column: str) -> float:
            text = known(row, column)
            try:
                return float(text) if text else np.nan
            except ValueError:
                raise InputError(f"{source}: {column} is {text!r}, not a number") from None

        return cls(
            name,
            tuple(row[key] for row in rows),
            tuple(row[name_column] for row in rows),
            tuple(known(row, "network") or known(row, "network_label") for row in rows),
            tuple(known(row, "hemisphere")[:1].upper() for row in rows),
            np.array([[coordinate(row, axis) for axis in "xyz"] for row in rows]).reshape(-1, 3),
        )

    def to_tsv(self, path: str | Path) -> None:
        """Write the table; :meth:`read` gives the same atlas back."""
        with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as lines:
            writer = csv.writer(lines, delimiter="\t", lineterminator="\n")
            writer.writerow(["label", "name", "network", "hemisphere", "x", "y", "z"])
            for row, place in enumerate(self.centroids):
                where = ["n/a" if np.isnan(value) else f"{value:g}" for value in place]
                known = [self.networks[row] or "n/a", self.hemispheres[row] or "n/a"]
                writer.writerow([self.labels[row], self.names[row], *known, *where])


def shipped_atlases() -> list[str]:
    """Return the names that :meth:`Atlas.load` knows."""
    return sorted(
        item.name.removesuffix(".tsv") for item in SHIPPED.iterdir() if item.name.endswith(".tsv")
    )
