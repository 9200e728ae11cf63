"""Which scans a run has seen: ``trained_on.tsv`` in every run folder, for later audits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fmrilm.data.cohort import Cohort, write_table

TRAINED_ON_FILE = "trained_on.tsv"
_COLUMNS = ["cohort", "participant_id", "session_id", "split"]


def write_trained_on(folder: str | Path, cohorts: Sequence[Cohort]) -> None:
    """Write the scans of the train and val splits, which a run learns from or is selected on."""
    tables = []
    for cohort in cohorts:
        table = cohort.table[cohort.table["split"] != "test"]
        table = table.rename(columns={"subject_id": "participant_id"}).assign(cohort=cohort.name)
        tables.append(table[_COLUMNS])
    write_table(pd.concat(tables, ignore_index=True), Path(folder) / TRAINED_ON_FILE)


def read_trained_on(folder: str | Path) -> pd.DataFrame | None:
    """Return the scans a run has seen; None if the run does not say."""
    path = Path(folder) / TRAINED_ON_FILE
    if not path.is_file():
        return None
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
