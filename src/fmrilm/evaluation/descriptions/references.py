"""What was measured in the scans of a cohort, and texts that fit it without looking at a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from fmrilm.cohort.cohort import DESCRIPTOR_FOLDER, Cohort
from fmrilm.descriptors import DESCRIPTORS, Descriptor
from fmrilm.descriptors.base import COUNTS
from fmrilm.descriptors.tables import join_families, read_table
from fmrilm.errors import InputError
from fmrilm.evaluation.descriptions.claims import claim_statistics
from fmrilm.readers import read_arrays, reading

CANDIDATES, JUDGES = 40, 40  # training texts that are tried, and training scans they are tried on


@dataclass(frozen=True)
class Measured:
    """What was measured in the scans of a cohort: one row per scan of the store.

    Attributes
    ----------
    table : DataFrame
        Measures and their z; all nan where a scan has none.
    texts : Series of str
        Made from the measures; empty where a scan has none.
    families : list of Descriptor
        Fitted on the training scans.
    """

    table: pd.DataFrame
    texts: pd.Series
    families: list[Descriptor]

    @property
    def place_names(self) -> dict[str, str]:
        """Names of places that are not networks."""
        return {k: v for family in self.families for k, v in family.place_names().items()}

    def rows(self, positions: np.ndarray) -> list[dict[str, Any]]:
        """Return the measures of some scans."""
        return self.table.iloc[positions].to_dict("records")

    def check(self, cohort: Cohort, split: str) -> None:
        """Raise :class:`InputError` if no scan of the split has a text."""
        if not (self.texts.iloc[cohort.indices(split)] != "").any():
            raise InputError(f"{cohort.name}: no scan of the {split} split has a description")


def read_measured(cohort: Cohort, types: list[str]) -> Measured:
    """Return the measures, texts and fitted families that `fmrilm describe` wrote.

    Raises
    ------
    FileNotFoundError
        If a family was not described.
    """
    folder, atlas = cohort.place(DESCRIPTOR_FOLDER), cohort.atlas
    tables, families = [], []
    for name in types:
        path = folder / f"{name}_descriptors.csv"
        table = read_table(path)
        family = DESCRIPTORS[name](atlas.networks, t_r=cohort.store.t_r or 2.0, names=atlas.names)
        measures = family.measure_names()
        missing = [column for column in (*COUNTS, *measures) if column not in table]
        if missing:
            raise InputError(
                f"{path} has no column {missing[0]!r}: run `fmrilm describe {cohort.folder} "
                f"--types {name} --refresh`"
            )
        numbers = [*COUNTS, *measures, *(f"{measure}_z" for measure in measures)]
        words = [c for c in numbers if c in table and not is_numeric_dtype(table[c])]
        if words:
            raise InputError(
                f"{path}: not all of column {words[0]!r} are numbers: mend it, or run `fmrilm "
                f"describe {cohort.folder} --types {name} --refresh`"
            )
        tables.append(table)
        reference = folder / f"{name}_reference.npz"
        if not reference.is_file():
            raise FileNotFoundError(
                f"{reference} not found: run `fmrilm describe {cohort.folder} --types {name}`"
            )
        with reading(reference, f"run `fmrilm describe {cohort.folder} --refresh`"):
            families.append(family.set_state(read_arrays(reference)))
    ids = ["subject_id", "session_id"]
    joined = cohort.table[ids].merge(join_families(tables), on=ids, how="left")
    return Measured(joined.drop(columns=[*ids, "summary"]), joined["summary"].fillna(""), families)


def average_text(measured: Measured, cohort: Cohort) -> str:
    """Return the text that is made from the mean measures of the training scans."""
    train = measured.table.iloc[cohort.indices("train")]
    texts = []
    for family in measured.families:
        names = [*COUNTS, *family.measure_names()]
        texts += family.describe(train[names].mean().to_frame().T)
    return " ".join(texts)


def typical_text(measured: Measured, cohort: Cohort) -> str:
    """Return the training text whose directions are most often true of other training scans."""
    train = cohort.indices("train")
    train = train[(measured.texts.iloc[train] != "").to_numpy()]
    tried = train[:: max(1, len(train) // CANDIDATES)][:CANDIDATES]
    judges = np.setdiff1d(train, tried)
    if len(judges) < len(tried):  # few scans: a text may then be judged by its own scan
        judges = train
    judges = judges[:: max(1, len(judges) // JUDGES)][:JUDGES]
    rows = measured.rows(judges)
    shares = []
    for text in measured.texts.iloc[tried]:
        found = claim_statistics([text] * len(rows), rows, measured.place_names)
        shares.append(found["directions_right"].sum() / max(found["directions"].sum(), 1))
    return str(measured.texts.iloc[tried[int(np.argmax(shares))]])
