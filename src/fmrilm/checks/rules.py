"""The checks of ``fmrilm doctor`` on a cohort folder: one small function per fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fmrilm.checks.finding import Finding
from fmrilm.checks.region_order import MARGIN, POOR, fit_orders
from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.scaling import Scaler
from fmrilm.hashing import checksum
from fmrilm.lineage.fingerprints import Fingerprints, find_copies
from fmrilm.preparation.quality.measures import connectivity

_SAMPLE = 100  # scans read for the checks on content
_THIN = 0.7  # coverage of a region
_FROZEN = 0.05  # share of volumes equal to the one before
_SLOW_SHARE = 0.5  # of the power that must lie below 0.1 Hz
_DRIFT = (0.5, 2.0)  # of the scale; and one scale of the centre
_UNLIKE = 5.0  # robust z of a scan's spread among the scans


@dataclass
class Content:
    """What the checks share, read once.

    Attributes
    ----------
    cohort : Cohort
    target_t_r : float
        Seconds the model expects.
    n_timepoints : int
        Length the model expects.
    reference : Scaler or None
        Scaling statistics of a checkpoint's training data.
    series : dict of int to ndarray
        Raw series of some samples.
    broken : dict of int to str
        Samples that cannot be read, with the reason.
    """

    cohort: Cohort
    target_t_r: float
    n_timepoints: int
    reference: Scaler | None
    series: dict[int, np.ndarray]
    broken: dict[int, str]

    @classmethod
    def read(
        cls, cohort: Cohort, target_t_r: float, n_timepoints: int, reference: Scaler | None
    ) -> Content:
        """Return the content of a cohort; every sample is checked, some are kept."""
        count = len(cohort)
        chosen = set(np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(int)).tolist())
        series, broken = {}, {}
        for index in range(count):
            try:
                values, _ = cohort.store.read(index)
            except ValueError as error:
                broken[index] = str(error)
                continue
            if index in chosen:
                series[index] = cohort.store.raw(index)
                del values
        return cls(cohort, target_t_r, n_timepoints, reference, series, broken)

    def name(self, index: int) -> str:
        """Return subject and session of a sample."""
        return f"{self.cohort.store.subjects[index]} {self.cohort.store.sessions[index]}"


def check_readable(content: Content) -> Iterator[Finding]:
    """NaN, Inf, another number of regions."""
    if content.broken:
        first = next(iter(content.broken.values()))
        yield Finding(
            "unreadable",
            "error",
            f"{len(content.broken)} samples cannot be used: {first}",
            "prepare the scans again, or leave them out",
            [content.name(index) for index in content.broken],
        )


def check_t_r(content: Content) -> Iterator[Finding]:
    """Repetition time other than the model's, or unknown."""
    t_r = content.cohort.store.t_r
    if t_r is None:
        yield Finding(
            "t_r_unknown",
            "note",
            f"the store does not say its TR; {content.target_t_r:g} s is assumed",
            "check it; `fmrilm prepare` on the store writes it: t_r=...",
        )
    elif abs(t_r - content.target_t_r) > 0.01:
        yield Finding(
            "t_r",
            "error",
            f"the series are sampled every {t_r:g} s, the model expects {content.target_t_r:g} s",
            f"run `fmrilm prepare {content.cohort.store.path} --output NEW "
            f"target_t_r={content.target_t_r:g}`",
        )


def check_length(content: Content) -> Iterator[Finding]:
    """Samples shorter than the model's window."""
    lengths = [content.cohort.store.shape(index)[1] for index in range(len(content.cohort))]
    short = [index for index, length in enumerate(lengths) if length < content.n_timepoints]
    if short:
        yield Finding(
            "short",
            "error",
            f"{len(short)} samples have fewer than {content.n_timepoints} time points "
            f"(shortest {min(lengths)})",
            "train with data.length=pad (masked) or a smaller model.vq_model.num_timestamp",
            [content.name(index) for index in short],
        )


def check_frozen(content: Content) -> Iterator[Finding]:
    """Volumes that repeat the one before: a scan stretched by nearest-neighbour interpolation."""
    frozen = []
    for index, series in content.series.items():
        rows = series[np.isfinite(series[:, 0])]
        rows = rows[np.ptp(rows, axis=1) > 0] if len(rows) else rows
        if len(rows) and (np.diff(rows, axis=1) == 0).all(axis=0).mean() > _FROZEN:
            frozen.append(index)
    if frozen:
        yield Finding(
            "stretched",
            "error",
            f"{len(frozen)} samples repeat volumes: they were stretched without interpolation",
            "prepare them again; short scans are better kept short (length=pad)",
            [content.name(index) for index in frozen],
        )


def check_slow(content: Content) -> Iterator[Finding]:
    """Series without the slow fluctuation of BOLD: wrong TR, shuffled or differenced volumes."""
    if not content.series:
        return
    t_r = content.cohort.store.t_r or content.target_t_r
    fast = []
    for index, series in content.series.items():
        if series.shape[1] < 40:
            continue
        rows = series[np.isfinite(series[:, 0])]
        power = np.abs(np.fft.rfft(rows - rows.mean(1, keepdims=True), axis=1)) ** 2
        frequency = np.fft.rfftfreq(rows.shape[1], t_r)
        total = power[:, 1:].sum()
        if total > 0 and power[:, 1:][:, frequency[1:] < 0.1].sum() / total < _SLOW_SHARE:
            fast.append(index)
    if len(fast) > 0.5 * len(content.series):
        yield Finding(
            "no_slow_fluctuation",
            "error",
            f"most of the power lies above 0.1 Hz at a TR of {t_r:g} s: the volumes are in another "
            "order, or the TR is not what the store says",
            "check the TR of the scans (t_r=...) and prepare them again",
            [content.name(index) for index in fast],
        )


def check_missing_regions(content: Content) -> Iterator[Finding]:
    """Regions that many samples lack."""
    if not content.series:
        return
    lacking = np.mean(
        [~np.isfinite(s).all(1) | (np.ptp(np.nan_to_num(s), axis=1) == 0) for s in
         content.series.values()], axis=0,
    )  # fmt: skip
    absent = np.mean([np.isnan(s).all(1) for s in content.series.values()], axis=0)
    names = _region_names(content.cohort)
    missing = np.flatnonzero(absent > 0.1)
    if len(missing):
        yield Finding(
            "missing_regions",
            "warning",
            f"{len(missing)} regions are absent from more than a tenth of the samples",
            "they are masked; check the field of view and the registration to MNI space",
            [names[row] for row in missing],
        )
    constant = np.flatnonzero((lacking - absent > 0.1) & (absent <= 0.1))
    if len(constant):
        yield Finding(
            "constant_regions",
            "warning",
            f"{len(constant)} regions are constant in more than a tenth of the samples",
            "they are masked; check the label image: such regions usually lie outside the brain",
            [names[row] for row in constant],
        )


def check_coverage(content: Content) -> Iterator[Finding]:
    """Regions that are there, but of which little was seen."""
    coverage = content.cohort.store.extra("coverage")
    if coverage is None:
        return
    median = np.median(coverage, axis=0)
    thin = np.flatnonzero((median < _THIN) & (median > 0))
    if len(thin):
        names = _region_names(content.cohort)
        yield Finding(
            "thin_regions",
            "warning",
            f"of {len(thin)} regions less than {_THIN:.0%} lies in the typical scan",
            "check the field of view; raise min_coverage to mask them",
            [f"{names[row]} {median[row]:.0%}" for row in thin],
        )


def check_order(content: Content) -> Iterator[Finding]:
    """Rows in another order than the table's, judged by the mean FC."""
    atlas = content.cohort.atlas
    readable = [index for index in content.series if index not in content.broken][:40]
    if not readable or np.isnan(atlas.centroids).all():
        return
    matrices = np.stack([connectivity(content.cohort, index) for index in readable])
    known = np.isfinite(matrices).sum(axis=0)
    total = np.where(np.isfinite(matrices), matrices, 0).sum(axis=0)
    group = np.divide(total, known, out=np.full(known.shape, np.nan), where=known > 0)
    fits = fit_orders(group, atlas)
    best = max(fits, key=lambda name: fits[name])
    own = fits["the table's order"]
    if fits[best] - own > MARGIN:
        yield Finding(
            f"order_{best.replace(' ', '_').replace('-', '_')}",
            "error",
            f"the regions look like {best} (FC fits {fits[best]:.2f}) rather than "
            f"{atlas.name} ({own:.2f})",
            "put the atlas.tsv of the real order into the folder, or prepare from the images",
        )
    elif own < POOR:
        yield Finding(
            "order_unknown",
            "error",
            f"the FC does not look like {atlas.name} in any known order (fit {own:.2f}; close and "
            "mirrored regions should be correlated)",
            "check that rows and labels belong together",
        )


def check_twins(content: Content) -> Iterator[Finding]:
    """The same scan under two ids, even if it was scaled, centred, cut or is noisy."""
    store = content.cohort.store
    readable = [index for index in range(len(content.cohort)) if index not in content.broken]
    prints = Fingerprints.of(store, readable)
    sums = [checksum(store.raw(index)) for index in readable]

    def asked(one: int, two: int) -> bool:
        # windows of one subject may overlap; they must not be equal
        subjects = (store.subjects[readable[scan]] for scan in (one, two))
        return len(set(subjects)) == 2 or sums[one] == sums[two]

    pairs = find_copies(prints, lambda scan: store.raw(readable[scan]), asked)
    twins = [f"{content.name(readable[i])} = {content.name(readable[j])}" for i, j in pairs]
    if twins:
        yield Finding(
            "twins",
            "error",
            f"{len(twins)} pairs of samples are copies of each other (up to scale, mean and noise)",
            "remove the copies; ids and series may have been shifted against each other",
            twins,
        )


def check_spread(content: Content) -> Iterator[Finding]:
    """Samples whose intensities are of another order than the rest's."""
    spread = {}
    for index, series in content.series.items():
        rows = series[np.isfinite(series[:, 0])]
        value = float(np.median(rows.std(axis=1))) if len(rows) else 0.0
        if value > 0:
            spread[index] = np.log10(value)
    if len(spread) < 5:
        return
    values = np.array(list(spread.values()))
    middle = np.median(values)
    scale = max(1.4826 * float(np.median(np.abs(values - middle))), 0.1)
    odd = [index for index, value in spread.items() if abs(value - middle) / scale > _UNLIKE]
    if odd:
        yield Finding(
            "mixed_units",
            "warning",
            f"{len(odd)} samples fluctuate on another scale than the rest: other units, or already "
            "standardised",
            "use norm robust_roi, or prepare them alike",
            [content.name(index) for index in odd],
        )


def check_drift(content: Content) -> Iterator[Finding]:
    """Intensities unlike those the checkpoint was trained on."""
    reference = content.reference
    if reference is None or not reference.base.endswith("_global") or not content.series:
        return
    means = np.concatenate(
        [np.nanmean(s[np.isfinite(s[:, 0])], axis=1) for s in content.series.values()]
    )
    low, middle, high = np.percentile(means, [25, 50, 75])
    ratio = (high - low) / reference.scale_
    shift = abs(middle - reference.center_) / reference.scale_
    if not _DRIFT[0] <= ratio <= _DRIFT[1] or shift > 1:
        yield Finding(
            "scale_drift",
            "error",
            f"intensities have centre {middle:.4g} and spread {high - low:.4g}; the checkpoint was "
            f"trained on {reference.center_:.4g} and {reference.scale_:.4g}",
            "scale the cohort by its own statistics (delete normalization_params.npz), or use a "
            "checkpoint with norm robust_roi",
        )


def check_norm(content: Content) -> Iterator[Finding]:
    """A global scaling although the static means of the regions make up nearly all the variance."""
    scaler = content.cohort.scaler
    if not scaler.base.endswith("_global") or not content.series:
        return
    inner, outer = [], []
    for series in content.series.values():
        rows = series[np.isfinite(series[:, 0])]
        inner.append(float(rows.var(axis=1).mean()))
        outer.append(float(rows.mean(axis=1).var()))
    share = np.mean(inner) / (np.mean(inner) + np.mean(outer))
    if share < 0.1:
        yield Finding(
            "static_means",
            "warning",
            f"with norm {scaler.norm} only {share:.1%} of the variance is fluctuation over time; "
            "the rest is each region's mean intensity",
            "use norm robust_roi unless a released checkpoint asks for the global one",
        )


CHECKS: tuple[Callable[[Content], Iterator[Finding]], ...] = (
    check_readable,
    check_t_r,
    check_length,
    check_frozen,
    check_slow,
    check_missing_regions,
    check_coverage,
    check_order,
    check_twins,
    check_spread,
    check_drift,
    check_norm,
)


def _region_names(cohort: Cohort) -> list[str]:
    return [f"{label} {name}" for label, name in zip(cohort.atlas.labels, cohort.atlas.names,
                                                     strict=True)]  # fmt: skip
