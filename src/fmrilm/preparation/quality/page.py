"""``qc.html``: what a person wants to see of a prepared cohort before believing it."""

from __future__ import annotations

import html
from collections import Counter
from pathlib import Path

import numpy as np

from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.scaling import Scaler
from fmrilm.preparation.quality.measures import (
    LARGE_FD,
    LOW_COVERAGE,
    ScanQuality,
    connectivity,
    measure_quality,
    read_facts,
)
from fmrilm.preparation.quality.motion import FEWEST, QCFC
from fmrilm.preparation.quality.plots import (
    picture,
    plot_coverage,
    plot_group,
    plot_qc_fc,
    plot_quality,
    thumbnail,
)

MOST_PICTURES = 100  # scans with thumbnails; flagged ones come first

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


def write_qc(cohort: Cohort, path: Path) -> list[ScanQuality]:
    """Write the page, one file without a network, and return the quality of every sample."""
    quality = measure_quality(cohort)
    scans = quality.scans
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
<p class="warn">{len(flagged)} samples flagged: mean FD above {LARGE_FD} mm, coverage below
{LOW_COVERAGE:.0%}, or an FC far from the group's. Nothing was left out because of a flag.</p>
<h2>Coverage of the regions</h2>{picture(plot_coverage(cohort))}
<h2>What was removed</h2>{_removed(cohort, scans)}
<h2>Motion and signal</h2>{picture(plot_quality(scans))}
<h2>QC-FC: does connectivity depend on motion?</h2>{_motion(quality.qc_fc)}
<h2>Mean functional connectivity</h2>{picture(plot_group(cohort, quality.group))}
<h2>Samples{note}</h2><p>Left: carpet plot (regions by time, z from -3 black to 3 white). Right: FC
(blue negative, red positive).</p><div class="scans">{cards}</div></body></html>"""
    path.write_text(page, encoding="utf-8")
    return scans


def _removed(cohort: Cohort, scans: list[ScanQuality]) -> str:
    """Return in words what was regressed, dropped and censored."""
    facts = read_facts(cohort)
    regressed = Counter((one.get("strategy", ""), one.get("regressed", "")) for one in facts)
    lines = []
    for (strategy, what), count in regressed.most_common():
        if strategy == "none":
            lines.append(
                f'<p class="warn">Nothing was regressed from {count} samples: motion and '
                "physiology are in them (strategy=none, or no confounds beside the images).</p>"
            )
        elif strategy == "n/a":
            lines.append(f"<p>{count} samples came as cleaned images or region series.</p>")
        elif strategy:
            words = html.escape(f"{strategy}: {what or 'no regressors'}")
            lines.append(f"<p>Regressed from {count} samples: {words}.</p>")
    dummies = Counter(scan.dummy_scans for scan in scans)
    dropped = [f"{n} in {count} samples" for n, count in sorted(dummies.items()) if n]
    lines.append(f"<p>Dummy scans dropped: {', '.join(dropped) or 'none'}.</p>")
    shares = [scan.censored for scan in scans if scan.censored]
    if shares:
        lines.append(
            f"<p>Censored: {len(shares)} samples, on average {np.mean(shares):.0%} of their time "
            f"points, at most {max(shares):.0%}; masked in connectivity and in the model.</p>"
        )
    return "\n".join(lines)


def _motion(found: QCFC | None) -> str:
    if found is None:
        return f"<p>Not told: fewer than {FEWEST} samples with a mean FD that differs.</p>"
    length = found.distance_dependence
    distance = "unknown (no coordinates)" if np.isnan(length) else f"{length:.2f}"
    return (
        f"<p>{found.n_samples} samples, {len(found.edges)} edges: median |r| with mean FD "
        f"{found.median:.2f} ({found.expected:.2f} if there were no dependence), "
        f"{found.significant:.0%} of the edges with p &lt; 0.05 (5% expected); rank correlation "
        f"with distance {distance} (0 is best).</p>{picture(plot_qc_fc(found))}"
    )


def _card(cohort: Cohort, index: int, scan: ScanQuality) -> str:
    series, usable = cohort.store.read(index)
    series, _ = Scaler("robust_roi").transform(series, usable)
    carpet = thumbnail(series, -3, 3, "gray")
    matrix = thumbnail(connectivity(cohort, index), -0.8, 0.8, "RdBu_r")
    fd = "unknown" if np.isnan(scan.mean_fd) else f"{scan.mean_fd:.2f} mm"
    flags = html.escape("; ".join(scan.flags))
    return (
        f'<div class="scan{" flag" if flags else ""}"><b>{html.escape(scan.subject)}</b> '
        f'{html.escape(scan.session)}<div class="row"><img src="{carpet}" alt="carpet plot">'
        f'<img src="{matrix}" alt="FC"></div>FD {fd}, {scan.absent} regions absent, '
        f'likeness {scan.likeness:.2f} <span class="flagtext">{flags}</span></div>'
    )
