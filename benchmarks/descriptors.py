"""Measure the descriptor families side by side with the field's tools, and on planted effects.

    OMP_NUM_THREADS=1 python benchmarks/descriptors.py graph gradients families

Parts: graph gradients families workers memory planted; one Markdown table each. Times of parts on
one core are CPU time, the best of several runs, so that other work on the machine counts little.
``gradients`` needs brainspace (left out, and said, where it is absent), ``graph`` networkx.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmrilm.atlases.atlas import Atlas
from fmrilm.cohort.cohort import Cohort
from fmrilm.datasets.synthetic.cohort import simulate
from fmrilm.datasets.synthetic.signal import group_covariance
from fmrilm.description.describe import describe
from fmrilm.description.measure import Scans
from fmrilm.descriptors import DESCRIPTORS
from fmrilm.descriptors.measures.communities import louvain, modularity
from fmrilm.descriptors.measures.diffusion import align, cosine_affinity, diffusion_map
from fmrilm.descriptors.measures.graph import (
    binary_efficiency,
    global_efficiency,
    proportional_threshold,
    weighted_clustering,
)
from fmrilm.descriptors.text.claims import parse_claims
from fmrilm.descriptors.text.verify import make_lexicon

# A word, a hyphenated pair, or a number's sign and whole part.
PATTERN = r"[a-z]+(?:-[a-z]+)*|-?\d+(?=\.)"
FOUR = ("fc", "gradient", "graph", "ica")


def main() -> None:
    parts = sys.argv[1:] or list(PARTS)
    for name in parts:
        print(f"\n## {name}\n")
        PARTS[name]()


def make_scans(count: int, n_timepoints: int = 160, n_rois: int = 450) -> list[np.ndarray]:
    """Gaussian scans with the group covariance of the synthetic cohorts."""
    rng = np.random.default_rng(0)
    covariance = group_covariance(Atlas.load("schaefer400_tianS3"))[0]
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 1e-3))
    scans = [(root @ rng.normal(size=(450, n_timepoints)))[-n_rois:] for _ in range(count)]
    return [scan.astype(np.float32) for scan in scans]


def seconds(function: Callable[[], Any], repeats: int = 5) -> float:
    """CPU time of one call, the best of several."""
    function()
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def show(rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in columns) + " |")


def graph() -> None:
    """400 nodes, 10% density: ours against networkx, measure for measure."""
    import networkx as nx

    scan = make_scans(1, n_rois=400)[0].astype(float)
    weights = proportional_threshold(np.abs(np.corrcoef(scan)), 0.1)
    net = nx.from_numpy_array(weights)
    for *_, edge in net.edges(data=True):
        edge["length"] = 1 / edge["weight"]

    def nx_weighted_efficiency() -> float:
        paths = nx.all_pairs_dijkstra_path_length(net, weight="length")
        return sum(1 / d for i, found in paths for j, d in found.items() if i != j) / (400 * 399)

    def nx_modularity() -> float:
        parts = nx.community.louvain_communities(net, weight="weight", seed=0)
        return nx.community.modularity(net, parts, weight="weight")

    measures: dict[str, tuple[Callable[[], float], Callable[[], float]]] = {
        "weighted efficiency": (lambda: global_efficiency(weights), nx_weighted_efficiency),
        "binary efficiency": (
            lambda: binary_efficiency(weights),
            lambda: nx.global_efficiency(net),
        ),
        "modularity (Louvain)": (
            lambda: modularity(weights, louvain(weights)),
            nx_modularity,
        ),
        "weighted clustering": (
            lambda: float(weighted_clustering(weights).mean()),
            lambda: nx.average_clustering(net, weight="weight"),
        ),
        "strength": (
            lambda: float(weights.sum(1).mean()),
            lambda: float(np.mean([s for _, s in net.degree(weight="weight")])),
        ),
    }
    rows, total = [], np.zeros((2, 2))
    for name, (ours, theirs) in measures.items():
        mine, reference = seconds(ours, 15), seconds(theirs, 2)
        rows.append(
            {
                "measure": name,
                "ours ms": f"{1e3 * mine:.1f}",
                "networkx ms": f"{1e3 * reference:.1f}",
                "times as fast": f"{reference / mine:.0f}",
                "difference": f"{abs(ours() - theirs()):.1e}",
            }
        )
        for k, left_out in enumerate(("binary efficiency", "weighted efficiency")):
            if name != left_out:
                total[k] += (mine, reference)
    for label, (mine, reference) in zip(("weighted", "binary"), total, strict=True):
        rows.append(
            {
                "measure": f"**all, {label} efficiency**",
                "ours ms": f"{1e3 * mine:.1f}",
                "networkx ms": f"{1e3 * reference:.1f}",
                "times as fast": f"**{reference / mine:.0f}**",
                "difference": "",
            }
        )
    show(rows)


def gradients() -> None:
    """400 nodes: ours against BrainSpace, same matrix, affinity and alignment included."""
    try:
        from brainspace.gradient import GradientMaps
        from brainspace.gradient.alignment import procrustes
    except ImportError:
        print("brainspace is not installed: left out")
        return
    scans = [scan.astype(float) for scan in make_scans(2, n_rois=400)]
    matrix, template_matrix = (np.corrcoef(scan) for scan in scans)

    def theirs(source: np.ndarray = matrix) -> np.ndarray:
        maps = GradientMaps(n_components=3, approach="dm", kernel="cosine", random_state=0)
        return maps.fit(source, sparsity=0.9).gradients_

    template = theirs(template_matrix)

    def ours() -> np.ndarray:
        return align(diffusion_map(cosine_affinity(matrix))[0], template)

    reference = procrustes(theirs(), template)
    found = ours()
    agreement = [abs(np.corrcoef(found[:, k], reference[:, k])[0, 1]) for k in range(3)]
    rows = [
        {"what": "ours", "ms": f"{1e3 * seconds(ours, 15):.1f}"},
        {
            "what": "BrainSpace",
            "ms": f"{1e3 * seconds(lambda: procrustes(theirs(), template), 15):.1f}",
        },
    ]
    show(rows)
    print("\n|r| per component: " + ", ".join(f"{r:.4f}" for r in agreement))


def families() -> None:
    """Every family at 450 x 160 on one core, text included."""
    atlas = Atlas.load("schaefer400_tianS3")
    scans = make_scans(12)
    rows, four = [], 0.0
    for name, family in DESCRIPTORS.items():
        descriptor = family(atlas.networks, t_r=2.0, names=atlas.names).fit(scans[:10])
        measured = seconds(lambda d=descriptor: d.measure_scan(scans[11]), 10)
        table = descriptor.transform(scans)
        told = seconds(lambda d=descriptor, t=table: d.describe(t), 5) / len(scans)
        four += (measured + told) * (name in FOUR)
        rows.append(
            {
                "family": name,
                "measures": len(descriptor.measure_names()),
                "measure ms": f"{1e3 * measured:.1f}",
                "text ms": f"{1e3 * told:.2f}",
            }
        )
    rows.append(
        {
            "family": "**" + " + ".join(FOUR) + "**",
            "measures": "",
            "measure ms": f"**{1e3 * four:.0f}** with text",
            "text ms": "",
        }
    )
    show(rows)


def workers() -> None:
    """The command on 600 scans with one and two workers, start-up of the workers included."""
    with tempfile.TemporaryDirectory() as place:
        simulate(place, cohort="UKB", subjects=540, seed=0)
        rows, first = [], 0.0
        for jobs in (1, 2):
            start = time.perf_counter()
            describe(Path(place), types="graph", jobs=jobs, refresh=True, gallery=0)
            took = time.perf_counter() - start
            first = first or took
            rows.append(
                {
                    "workers": jobs,
                    "scans": len(Cohort(place)),
                    "seconds": f"{took:.1f}",
                    "speed-up": f"{first / took:.2f}",
                }
            )
        show(rows)


def memory() -> None:
    """Peak memory of the command (one worker: everything in one process) as the cohort grows."""
    rows = []
    for count in (100, 400):
        with tempfile.TemporaryDirectory() as place:
            simulate(place, cohort="HCP-Aging", subjects=count, seed=0)
            code = (
                "import resource\nfrom pathlib import Path\n"
                "from fmrilm.description.describe import describe\n"
                f"describe(Path({place!r}), types='fc,gradient,ica', jobs=1, gallery=0)\n"
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
            )
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            store = (Path(place) / "data_resampled.h5").stat().st_size / 2**20
            peak = done.stdout.decode().split()[-1]
            rows.append({"scans": count, "store MB": f"{store:.0f}", "peak MB": peak})
    show(rows)


def planted() -> None:
    """Planted effects of the synthetic cohorts in the texts of affected people."""
    for name, phenotype, affected in (
        ("ADNI", "AD", 1), ("ABIDE2", "ASD", 1), ("ADHD200", "ADHD", 1), ("UKB", "sex", "F")
    ):  # fmt: skip
        with tempfile.TemporaryDirectory() as place:
            simulate(place, cohort=name, subjects=300, seed=1)
            _planted_directions(place, phenotype, affected)
            _planted_texts(place, phenotype, affected)


def _planted_directions(place: str, phenotype: str, affected: Any) -> None:
    """Reference: unaffected training scans. Told: what the texts of the affected state."""
    cohort = Cohort(place)
    is_affected = (cohort.table[phenotype] == affected).to_numpy()
    train = (cohort.table["split"] == "train").to_numpy()
    family = DESCRIPTORS["fc"](cohort.atlas.networks, t_r=2.0)
    family.fit(Scans(cohort, np.flatnonzero(train & ~is_affected)))
    measures = family.transform(Scans(cohort, np.flatnonzero(is_affected)))
    z = family.z_scores(measures)
    told = [
        {fact.measure: fact for sentence in sentences for fact in sentence.facts}
        for sentences in family.explain(measures)
    ]
    rows = []
    effects = json.loads((Path(place) / "planted_effects.json").read_text())["effects"]
    for effect in effects:
        if effect["phenotype"] != phenotype or effect["kind"] != "connectivity":
            continue
        names = [f"fc__{a}__{b}" for a, b in (effect["networks"], effect["networks"][::-1])]
        measure = next(n for n in names if n in measures)
        sign = np.sign(effect["d"])
        stated = [facts[measure].z for facts in told if measure in facts]
        stated = np.array([value for value in stated if abs(round(value, 2)) > 1])
        rows.append(
            {
                "pair": measure,
                "planted d": effect["d"],
                "measured d": effect["measured_d"],
                "right side of the norm": f"{(sign * z[f'{measure}_z'] > 0).mean():.0%}",
                "texts that state it": len(stated),
                "of these right": f"{(sign * stated > 0).mean():.0%}" if len(stated) else "-",
            }
        )
    print(f"\n{phenotype}, {is_affected.sum()} affected scans, norm of unaffected training scans\n")
    show(rows)
    count = np.array([row["texts that state it"] for row in rows], float)
    right = np.array([float(row["of these right"].strip("%-") or 0) for row in rows])
    print(f"\nright among all {count.sum():.0f} statements: {(count @ right) / count.sum():.1f}%")


def _planted_texts(place: str, phenotype: str, affected: Any) -> None:
    """Bag of words + logistic regression, texts of `fmrilm describe`, held-out subjects."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler

    describe(Path(place), types="fc,ica", jobs=2)
    cohort = Cohort(place)
    target = (cohort.table[phenotype] == affected).to_numpy(int)
    train = (cohort.table["split"] == "train").to_numpy()
    test = (cohort.table["split"] != "train").to_numpy()
    rows = []
    for families_used in (["fc"], ["fc", "ica"]):
        texts = cohort.descriptions(families_used)
        for label, longest in (("words", 1), ("words to 6-grams", 6)):
            counter = CountVectorizer(
                ngram_range=(1, longest), token_pattern=PATTERN, min_df=5, binary=True
            )
            model = make_pipeline(counter, MaxAbsScaler(), LogisticRegression(C=0.05))
            model.fit(texts[train], target[train])
            score = model.predict_proba(texts[test])[:, 1]
            rows.append(
                {
                    "texts": "+".join(families_used),
                    "features": label,
                    "held-out AUC": f"{roc_auc_score(target[test], score):.2f}",
                    "scans": f"{train.sum()} train, {test.sum()} held out",
                }
            )
    table = pd.read_csv(Path(place) / "descriptors_rewritten/fc_descriptors.csv")
    lexicon = make_lexicon(table.columns)
    claims = [parse_claims(text, lexicon) for text in cohort.descriptions(["fc"])]
    sides = [{f"{c.measure} {c.direction}": 1.0 for c in told} for told in claims]
    numbers = [{c.measure: float(c.z) for c in told if c.z} for told in claims]
    for label, features in (("direction", sides), ("z", numbers)):
        model = make_pipeline(DictVectorizer(), LogisticRegression(C=0.05, max_iter=2000))
        model.fit([f for f, use in zip(features, train, strict=True) if use], target[train])
        score = model.predict_proba([f for f, use in zip(features, test, strict=True) if use])[:, 1]
        rows.append(
            {
                "texts": "fc",
                "features": f"claims read back ({label})",
                "held-out AUC": f"{roc_auc_score(target[test], score):.2f}",
                "scans": "",
            }
        )
    values = table.filter(regex="_z$").fillna(0).to_numpy()
    model = LogisticRegression(C=0.05, max_iter=2000).fit(values[train], target[train])
    auc = roc_auc_score(target[test], model.predict_proba(values[test])[:, 1])
    rows.append(
        {"texts": "(fc measures)", "features": "z", "held-out AUC": f"{auc:.2f}", "scans": ""}
    )
    print()
    show(rows)


PARTS = {
    "graph": graph,
    "gradients": gradients,
    "families": families,
    "workers": workers,
    "memory": memory,
    "planted": planted,
}

if __name__ == "__main__":
    main()
