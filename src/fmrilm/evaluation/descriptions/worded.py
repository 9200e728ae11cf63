"""Descriptions without a language model: measures by ridge from the scan, worded by the grammar."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fmrilm.descriptors.base import COUNTS
from fmrilm.evaluation.baselines.baselines import project
from fmrilm.evaluation.baselines.features import SHORT, extract
from fmrilm.evaluation.baselines.linear import LinearValues

if TYPE_CHECKING:
    from fmrilm.cohort.cohort import Cohort
    from fmrilm.evaluation.descriptions.references import Measured


def ridge_texts(measured: Measured, cohort: Cohort, rows: np.ndarray, length: int) -> list[str]:
    """Return a text for each of some scans, from measures that ridge predicts.

    Each measure is predicted from connectivity, of short windows from the values, by a ridge of
    its own that was fitted to the training scans; how the scan was measured (regions, time
    points) is taken from the scan. A measure that a training scan lacks counts as average there.

    Parameters
    ----------
    measured : Measured
    cohort : Cohort
    rows : ndarray of int, shape (n,)
        Scans to be described.
    length : int
        Time points that are read, as the model does.
    """
    described = (measured.texts != "").to_numpy()
    train, val = (cohort.indices(split) for split in ("train", "val"))
    parts = [train[described[train]], val[described[val]], rows]
    feature = "values" if min(length, cohort.store.shape(int(rows[0]))[1]) < SHORT else "fc"
    features = extract(cohort, np.concatenate(parts), length, [feature])[feature]
    edges = np.cumsum([0, *map(len, parts)])
    coordinates = project([features[start:end] for start, end in pairwise(edges)])
    names = [name for family in measured.families for name in family.measure_names()]
    known = [measured.table.iloc[part][names].to_numpy(dtype=float) for part in parts[:2]]
    there = ~np.isnan(known[0])
    counts = there.sum(axis=0)
    mean = np.where(there, known[0], 0).sum(axis=0) / np.maximum(counts, 1)
    targets = tuple(np.where(np.isnan(part), mean, part) for part in known)
    people = tuple(cohort.table["subject_id"].iloc[part].to_numpy(dtype=str) for part in parts[:2])
    inputs = coordinates[0], coordinates[1]
    model = LinearValues().fit(inputs, (targets[0], targets[1]), (people[0], people[1]))
    told = pd.DataFrame(model.predict(coordinates[2]), columns=names)
    told.loc[:, counts == 0] = np.nan  # nobody has it, so nothing is said of it
    told[list(COUNTS)] = measured.table[list(COUNTS)].iloc[rows].to_numpy()
    of_family = [family.describe(told) for family in measured.families]
    return [" ".join(texts) for texts in zip(*of_family, strict=True)]
