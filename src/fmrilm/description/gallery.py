"""The descriptor gallery: what was measured on a few scans, drawn beside the sentences about it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from fmrilm.atlases.atlas import Atlas
from fmrilm.cohort.cohort import Cohort
from fmrilm.descriptors import Descriptor, verify
from fmrilm.descriptors.connectivity import correlation
from fmrilm.descriptors.gradients import Gradients
from fmrilm.descriptors.graph import Graph
from fmrilm.descriptors.measures.graph import proportional_threshold
from fmrilm.descriptors.measures.networks import membership, network_order
from fmrilm.descriptors.measures.scans import usable_regions
from fmrilm.descriptors.measures.spectra import power_spectrum
from fmrilm.descriptors.measures.windows import network_signals, windowed_connectivity
from fmrilm.descriptors.text.wording import network_name

INK, FAINT = "#1f2933", "#9aa5b1"


def write_gallery(
    cohort: Cohort,
    fitted: Sequence[Descriptor],
    scans: Sequence[tuple[str, str, np.ndarray]],
    path: Path,
    seed: int = 0,
) -> Path:
    """Write one self-contained HTML page and return its path.

    Parameters
    ----------
    cohort : Cohort
    fitted : sequence of Descriptor
        Families that were fitted on the training scans.
    scans : sequence of (subject, session, series)
        What to show; series (n_rois, n_timepoints), NaN where a region is absent.
    path : path
        The page.
    seed : int
        Of the wording.
    """
    import jinja2

    atlas = cohort.atlas
    shown = []
    for subject, session, series in scans:
        parts = [_show(family, series, f"{subject}|{session}", atlas, seed) for family in fitted]
        shown.append({"title": f"{subject}, session {session}", "parts": parts})
    template = (files("fmrilm.description") / "templates" / "gallery.html").read_text(
        encoding="utf-8"
    )
    environment = jinja2.Environment(autoescape=True)
    page = environment.from_string(template).render(
        cohort=cohort.name, synthetic=cohort.info.synthetic, source=cohort.store.source, scans=shown
    )
    path.write_text(page, encoding="utf-8")
    return path


def _show(
    family: Descriptor, series: np.ndarray, key: str, atlas: Atlas, seed: int
) -> dict[str, Any]:
    measures = family.transform([series]).set_axis([key])
    row = {**measures.iloc[0].to_dict(), **family.z_scores(measures).iloc[0].to_dict()}
    sentences = []
    for sentence in family.explain(measures, seed=seed)[0]:
        verdicts = verify(sentence.text, row, family.place_names()).verdicts
        sentences.append(
            {
                "text": sentence.text,
                "is_true": all(item.verdict == "supported" for item in verdicts),
                "facts": [f"{f.measure}: {f.value:.4g}, z = {f.z:.2f}" for f in sentence.facts],
            }
        )
    usable = usable_regions(series)
    draw = _FIGURES.get(family.family, _draw_z)
    is_measured = any(sentence["facts"] for sentence in sentences)
    image = _figure(draw, family, series.astype(float), usable, atlas, row) if is_measured else ""
    return {"title": family.title, "image": image, "sentences": sentences}


def _figure(draw: Callable[..., None], *arguments: Any) -> str:
    """Return a drawing as base64 PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 3.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.tick_params(labelsize=7, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes, *arguments)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _colours(networks: Sequence[str]) -> dict[str, Any]:
    from matplotlib import colormaps

    order = network_order(networks)
    return {name: colormaps["tab10" if len(order) <= 10 else "tab20"](k % 20)
            for k, name in enumerate(order)}  # fmt: skip


def _draw_fc(axes: Any, family: Descriptor, series: Any, usable: Any, *_: Any) -> None:
    labels = np.asarray(family.networks, dtype=object)[usable]
    order = network_order(family.networks)
    rows = np.concatenate([np.flatnonzero(labels == name) for name in order])
    matrix = correlation(series[usable])[np.ix_(rows, rows)]
    image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    sizes = [int((labels == name).sum()) for name in order]
    edges = np.cumsum([0, *sizes])
    for edge in edges[1:-1]:
        axes.axhline(edge - 0.5, color="white", lw=0.6)
        axes.axvline(edge - 0.5, color="white", lw=0.6)
    axes.set_yticks((edges[:-1] + edges[1:]) / 2, [network_name(name) for name in order])
    axes.set_xticks([])
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.7, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.ax.tick_params(labelsize=7, colors=INK)
    bar.ax.set_title("r", fontsize=8)
    bar.outline.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _draw_gradients(
    axes: Any, family: Gradients, series: Any, usable: Any, atlas: Atlas, row: Any
) -> None:
    positions = family.embed_scan(series, usable)
    _scatter(axes, positions[:, :2], np.asarray(family.networks, dtype=object)[usable])
    axes.set_xlabel("gradient 1", fontsize=8)
    axes.set_ylabel("gradient 2", fontsize=8)


def _scatter(axes: Any, points: np.ndarray, labels: np.ndarray, size: float = 10) -> None:
    for name, colour in _colours(labels.tolist()).items():
        where = labels == name
        axes.scatter(*points[where].T, s=size, color=colour, label=network_name(name), lw=0)
    axes.legend(fontsize=6, frameon=False, markerscale=1.6, loc="center left",
                bbox_to_anchor=(1, 0.5))  # fmt: skip


def _draw_graph(axes: Any, family: Graph, series: Any, usable: Any, atlas: Atlas, row: Any) -> None:
    """Regions seen from above (or around a circle) with the strongest links."""
    from matplotlib.collections import LineCollection

    r = np.abs(correlation(series[usable]))
    np.fill_diagonal(r, 0)
    weights = proportional_threshold(r, family.density)
    place = atlas.centroids[usable][:, :2]
    if not np.isfinite(place).all():
        angle = np.linspace(0, 2 * np.pi, len(r), endpoint=False)
        place = np.column_stack((np.cos(angle), np.sin(angle)))
    first, second = np.nonzero(np.triu(weights))
    strongest = np.argsort(weights[first, second])[-400:]
    lines = np.stack((place[first[strongest]], place[second[strongest]]), axis=1)
    axes.add_collection(LineCollection(list(lines), colors=FAINT, linewidths=0.3, alpha=0.5))
    strength = weights.sum(1)
    size = 3 + 25 * strength / max(strength.max(), 1e-9)
    _scatter_sized(axes, place, np.asarray(family.networks, dtype=object)[usable], size)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _scatter_sized(axes: Any, points: np.ndarray, labels: np.ndarray, size: np.ndarray) -> None:
    for name, colour in _colours(labels.tolist()).items():
        where = labels == name
        axes.scatter(*points[where].T, s=size[where], color=colour, label=network_name(name), lw=0)
    axes.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_spectra(axes: Any, family: Descriptor, series: Any, usable: Any, *_: Any) -> None:
    signals = network_signals(series[usable], membership(family.networks, usable))
    for (name, colour), signal in zip(_colours(family.networks).items(), signals, strict=True):
        if np.isfinite(signal).all():
            frequencies, power = power_spectrum(signal[None], family.t_r)
            width = max(1, len(frequencies) // 30)
            smooth = np.convolve(power[0], np.ones(width) / width, "same")
            axes.semilogy(frequencies[1:], smooth[1:], color=colour, lw=1, label=network_name(name))
    axes.axvspan(0.01, 0.1, color=FAINT, alpha=0.15, lw=0)
    axes.set_xlabel("frequency (Hz); shaded: 0.01-0.1 Hz", fontsize=8)
    axes.set_ylabel("power", fontsize=8)
    axes.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _draw_dynamics(axes: Any, family: Any, series: Any, usable: Any, *_: Any) -> None:
    signals = network_signals(series[usable], membership(family.networks, usable))
    width = max(5, round(family.window / family.t_r))
    windows = windowed_connectivity(signals, width, family.step)
    known = windows[:, np.isfinite(windows).all(axis=0)]
    time = (np.arange(len(known)) * family.step + width / 2) * family.t_r
    axes.plot(time, known, color=FAINT, lw=0.4, alpha=0.6)
    axes.plot(time, known.mean(axis=1), color=INK, lw=1.5)
    axes.set_xlabel("time (s)", fontsize=8)
    axes.set_ylabel("windowed r: pairs of networks, mean", fontsize=8)


def _draw_z(axes: Any, family: Descriptor, series: Any, usable: Any, atlas: Any, row: Any) -> None:
    """The measures furthest from the training scans."""
    z = {n: row[f"{n}_z"] for n in family.measure_names() if np.isfinite(row[f"{n}_z"])}
    far = sorted(z, key=lambda name: -abs(z[name]))[:16][::-1]
    names = family.place_names()
    labels = []
    for measure in far:
        quantity, *places = measure.split("__")
        told = "-".join(names.get(place, network_name(place)) for place in places)
        labels.append(f"{told} ({quantity})")
    axes.barh(range(len(far)), [z[name] for name in far], color=INK, height=0.6)
    axes.axvspan(-1, 1, color=FAINT, alpha=0.2, lw=0)
    axes.set_yticks(range(len(far)), labels, fontsize=6)
    axes.set_xlabel("z against the training scans; shaded: typical", fontsize=8)


_FIGURES: dict[str, Callable[..., None]] = {
    "fc": _draw_fc,
    "gradient": _draw_gradients,
    "graph": _draw_graph,
    "ica": _draw_spectra,
    "dynamics": _draw_dynamics,
}
