"""``qc.html``: what a person wants to see of a prepared cohort before believing it."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fmrilm.data.cohort import Cohort
from fmrilm.data.scaling import Scaler

MOST_PICTURES = 100  # scans with thumbnails; flagged ones come first
_LARGE_FD = 0.5  # mm, mean of a scan
_LOW_COVERAGE = 0.9  # mean over regions
_FAR = 3.5  # robust z of the likeness to the group's FC
_MOST_FOR_GROUP = 2000  # scans in the group mean

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#222}
h1{font-size:1.6rem} h2{font-size:1.2rem;margin-top:2.2rem}
.warn{background:#fff3d6;padding:.5rem 1rem}
.scans{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:14px}
.scan{border:1px solid #ddd;border-radius:6px;padding:8px;font-size:12px;overflow-wrap:anywhere}
.scan.flag{border-color:#c0392b;border-width:2px} .scan img{height:84px;image-rendering:pixelated}
.row{display:flex;gap:8px} .row img:first-child{flex:1;min-width:0;width:100%}
.flagtext{color:#c0392b}
figure{margin:0} figcaption{color:#555;font-size:13px} img.wide{max-width:100%}
"""


@dataclass
class ScanQuality:
    """What is known of the quality of one sample."""

    subject: str
    session: str
    mean_fd: float  # mm, NaN if unknown
    coverage: float  # mean over regions
    absent: int  # regions that are absent or constant
    likeness: float  # correlation of its FC with the group's
    flags: list[str]


def connectivity(cohort: Cohort, index: int) -> np.ndarray:
    """Return Fisher z of the correlations of one sample, NaN where a region cannot be used."""
    series, usable = cohort.store.read(index)
    series, usable = Scaler("robust_roi").transform(series, usable)
    matrix = np.full((len(series), len(series)), np.nan, np.float32)
    if usable.sum() > 1 and series.shape[1] > 2:
        correlations = np.corrcoef(series[usable])
        matrix[np.ix_(usable, usable)] = np.arctanh(np.clip(correlations, -0.999, 0.999))
    np.fill_diagonal(matrix, np.nan)
    return matrix


def measure_quality(cohort: Cohort) -> tuple[list[ScanQuality], np.ndarray]:
    """Return the quality of every sample and the mean FC (Fisher z) of the cohort."""
    count, n_rois = len(cohort), cohort.store.n_rois
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MOST_FOR_GROUP)).astype(int))
    total, seen = np.zeros((n_rois, n_rois)), np.zeros((n_rois, n_rois))
    for index in chosen:
        matrix = connectivity(cohort, int(index))
        known = np.isfinite(matrix)
        total[known] += matrix[known]
        seen += known
    group = np.divide(total, seen, out=np.full_like(total, np.nan), where=seen > 0)
    coverage = cohort.store.extra("coverage")
    upper = np.triu_indices(n_rois, 1)
    found = []
    for index in range(count):
        matrix = connectivity(cohort, index)[upper]
        known = np.isfinite(matrix) & np.isfinite(group[upper])
        likeness = np.nan
        if known.sum() > 2:
            likeness = float(np.corrcoef(matrix[known], group[upper][known])[0, 1])
        row = cohort.table.iloc[index]
        covered = float(coverage[index].mean()) if coverage is not None else np.nan
        usable = cohort.store.read(index)[1]
        fd = float(row["mean_fd"]) if "mean_fd" in row and pd.notna(row["mean_fd"]) else np.nan
        found.append(
            ScanQuality(
                row["subject_id"],
                row["session_id"],
                fd,
                covered,
                int((~usable).sum()),
                likeness,
                [],
            )
        )
    _flag(found)
    return found, group


def _flag(scans: list[ScanQuality]) -> None:
    likeness = np.array([scan.likeness for scan in scans])
    middle = np.nanmedian(likeness)
    spread = 1.4826 * np.nanmedian(np.abs(likeness - middle))
    for scan in scans:
        if scan.mean_fd > _LARGE_FD:
            scan.flags.append(f"mean FD {scan.mean_fd:.2f} mm")
        if scan.coverage < _LOW_COVERAGE:
            scan.flags.append(f"coverage {scan.coverage:.0%}")
        if not np.isfinite(scan.likeness):
            scan.flags.append("no FC can be computed")
        elif spread > 0 and (middle - scan.likeness) / spread > _FAR and len(scans) > 4:
            scan.flags.append(f"FC unlike the group's (r = {scan.likeness:.2f})")


def write_qc(cohort: Cohort, path: Path) -> list[ScanQuality]:
    """Write the page, one file without a network, and return the quality of every sample."""
    scans, group = measure_quality(cohort)
    flagged = [index for index, scan in enumerate(scans) if scan.flags]
    others = [index for index in range(len(scans)) if not scans[index].flags]
    shown = [*flagged, *others][:MOST_PICTURES]
    cards = "\n".join(_card(cohort, index, scans[index]) for index in shown)
    note = "" if len(shown) == len(scans) else f" ({len(shown)} of {len(scans)} shown)"
    kind = (
        '<p class="warn">SYNTHETIC data: nothing here was measured.</p>'
        if cohort.info.synthetic
        else ""
    )
    splits = cohort.table["split"].value_counts()
    page = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>Quality of {html.escape(cohort.name)}</title><style>{_STYLE}</style></head><body>
<h1>Quality of {html.escape(cohort.name)}</h1>{kind}
<p>{len(cohort)} samples of {cohort.table["subject_id"].nunique()} subjects
({", ".join(f"{name} {count}" for name, count in splits.items())}), {cohort.store.n_rois} regions,
TR {cohort.store.t_r} s. {html.escape(cohort.store.source or "")}</p>
<p class="warn">{len(flagged)} samples flagged: mean FD above {_LARGE_FD} mm, coverage below
{_LOW_COVERAGE:.0%}, or an FC far from the group's. Nothing was left out because of a flag.</p>
<h2>Coverage of the regions</h2>{_picture(_plot_coverage(cohort))}
<h2>Motion</h2>{_picture(_plot_motion(scans))}
<h2>Mean functional connectivity</h2>{_picture(_plot_group(cohort, group))}
<h2>Samples{note}</h2><p>Left: carpet plot (regions by time, z from -3 black to 3 white). Right: FC
(blue negative, red positive).</p><div class="scans">{cards}</div></body></html>"""
    path.write_text(page, encoding="utf-8")
    return scans


def _card(cohort: Cohort, index: int, scan: ScanQuality) -> str:
    series, usable = cohort.store.read(index)
    series, _ = Scaler("robust_roi").transform(series, usable)
    carpet = _thumbnail(series, -3, 3, "gray")
    matrix = _thumbnail(connectivity(cohort, index)[::3, ::3], -0.8, 0.8, "RdBu_r")
    fd = "unknown" if np.isnan(scan.mean_fd) else f"{scan.mean_fd:.2f} mm"
    flags = html.escape("; ".join(scan.flags))
    return (
        f'<div class="scan{" flag" if flags else ""}"><b>{html.escape(scan.subject)}</b> '
        f'{html.escape(scan.session)}<div class="row"><img src="{carpet}" alt="carpet plot">'
        f'<img src="{matrix}" alt="FC"></div>FD {fd}, {scan.absent} regions absent, '
        f'likeness {scan.likeness:.2f} <span class="flagtext">{flags}</span></div>'
    )


def _thumbnail(values: np.ndarray, low: float, high: float, colours: str) -> str:
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, np.nan_to_num(values), vmin=low, vmax=high, cmap=colours, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _picture(content: bytes) -> str:
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    return f'<img class="wide" src="{source}" alt="">'


def _figure(width: float, height: float) -> tuple:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure) -> bytes:  # type: ignore[no-untyped-def]
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _plot_coverage(cohort: Cohort) -> bytes:
    figure, axis = _figure(9.5, 2.6)
    coverage = cohort.store.extra("coverage")
    usable = np.mean([cohort.store.read(i)[1] for i in range(min(len(cohort), 500))], axis=0)
    if coverage is not None:
        axis.plot(coverage.mean(0), lw=0.8, color="#1f77b4", label="mean share of the region seen")
        axis.plot(coverage.min(0), lw=0.8, color="#c0392b", label="lowest of all samples")
    axis.plot(usable, lw=0.8, color="#555", ls=":", label="share of samples that can use it")
    networks = cohort.atlas.networks
    starts = [i for i in range(len(networks)) if i == 0 or networks[i] != networks[i - 1]]
    if len(starts) < 40 and cohort.atlas.has_networks:
        axis.set_xticks(starts, [networks[i] for i in starts], rotation=60, ha="right", fontsize=7)
    axis.set(ylim=(-0.02, 1.05), xlim=(0, len(networks) - 1), ylabel="share")
    axis.legend(fontsize=7, loc="lower left")
    return _png(figure)


def _plot_motion(scans: list[ScanQuality]) -> bytes:
    figure, axis = _figure(5, 2.4)
    known = [scan.mean_fd for scan in scans if np.isfinite(scan.mean_fd)]
    if known:
        axis.hist(known, bins=30, color="#1f77b4")
        axis.axvline(_LARGE_FD, color="#c0392b", lw=1)
    axis.set(
        xlabel="mean FD (mm)", ylabel="samples", title=f"known for {len(known)} of {len(scans)}"
    )
    return _png(figure)


def _plot_group(cohort: Cohort, group: np.ndarray) -> bytes:
    figure, axis = _figure(5.4, 4.6)
    order = np.argsort([*map(_rank(cohort), cohort.atlas.networks)], kind="stable")
    shown = axis.imshow(group[np.ix_(order, order)], cmap="RdBu_r", vmin=-0.8, vmax=0.8)
    axis.set(title="mean Fisher z, regions sorted by network", xticks=[], yticks=[])
    names = np.array(cohort.atlas.networks)[order]
    if cohort.atlas.has_networks:
        middles = [float(np.flatnonzero(names == n).mean()) for n in dict.fromkeys(names)]
        axis.set_yticks(middles, list(dict.fromkeys(names)), fontsize=7)
    figure.colorbar(shown, ax=axis, shrink=0.7)
    return _png(figure)


def _rank(cohort: Cohort):  # type: ignore[no-untyped-def]
    position = {name: i for i, name in enumerate(cohort.atlas.network_names)}
    return lambda name: position.get(name, len(position))
