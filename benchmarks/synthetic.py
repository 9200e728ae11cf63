"""How well plain functional connectivity finds the planted effects of the synthetic cohorts.

    python benchmarks/synthetic.py UKB ADNI ABIDE2 ADHD200 HCP-Aging

430 people per cohort, 300 of them train: upper triangle of the FC (Fisher z, first session),
standardised, logistic regression with C = 1e-4, AUC on the other 130. Numbers are split at their
median (age), or the lowest against the highest class (fluid intelligence, flanker).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time

import numpy as np

from fmrilm.cohort.cohort import Cohort
from fmrilm.datasets.synthetic.cohort import PLANS, simulate

SUBJECTS, TRAIN = 430, 300


def read_connectivity(cohort: Cohort, indices: np.ndarray) -> np.ndarray:
    """Return the Fisher z of every pair of regions, shape (n_scans, n_pairs)."""
    upper = np.triu_indices(cohort.store.n_rois, 1)
    rows = [np.corrcoef(cohort.read(int(index))[0])[upper] for index in indices]
    return np.arctanh(np.clip(rows, -0.999, 0.999)).astype(np.float32)


def choose_labels(cohort: Cohort, phenotype: str, rows: np.ndarray) -> np.ndarray:
    """Return 1, 0 or NaN for every scan of ``rows``."""
    table = cohort.table.iloc[rows]
    if phenotype == "sex":
        return (table["sex"] == "F").to_numpy(float)
    if phenotype == "age":
        return (table["age"] > table["age"].median()).to_numpy(float)
    if f"{phenotype}_enc" in table:
        return table[f"{phenotype}_enc"].map({0: 0.0, 1: np.nan, 2: 1.0}).to_numpy(float)
    return table[phenotype].to_numpy(float)


def main(names: list[str]) -> None:
    """Simulate the cohorts and print one line per phenotype."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    print(f"{'cohort':10} {'phenotype':12} {'people':>6} {'AUC':>6}  planted |d| (measured)")
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            start = time.perf_counter()
            folder = simulate(temporary, cohort=name, subjects=SUBJECTS, seed=0)
            seconds = time.perf_counter() - start
            cohort = Cohort(folder)
            effects = json.loads((folder / "planted_effects.json").read_text())["effects"]
            first = np.flatnonzero(cohort.table["session_id"] == "ses-1")
            fc = read_connectivity(cohort, first)
            in_train = np.zeros(len(first), bool)
            in_train[np.random.default_rng(0).permutation(len(first))[:TRAIN]] = True
            for phenotype in dict.fromkeys(effect["phenotype"] for effect in effects):
                labels = choose_labels(cohort, phenotype, first)
                known = np.isfinite(labels)
                model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-4, max_iter=500))
                model.fit(fc[known & in_train], labels[known & in_train])
                test = known & ~in_train
                auc = roc_auc_score(labels[test], model.decision_function(fc[test]))
                sizes = [e for e in effects if e["phenotype"] == phenotype]
                planted = np.mean([abs(e["d"]) for e in sizes])
                found = np.mean([e["measured_d"] * np.sign(e["d"]) for e in sizes])
                print(
                    f"{name:10} {phenotype:12} {known.sum():6} {auc:6.3f}  "
                    f"{len(sizes)} x {planted:.2f} ({found:.2f})"
                )
            print(f"{name:10} made in {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(PLANS))
