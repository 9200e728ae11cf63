"""What a scan looks like, in a few numbers: copies are recognised by their content.

A fingerprint survives a change of scale or mean of any region, rounding and noise. It consists of
two random bilinear sketches of the series whose rows are standardised: of the series itself (copies
of equal length) and of its functional connectivity (copies that were cut or shifted, in scans that
are long enough for a correlation). The random signs come from a hash, so that fingerprints that a
run keeps can be compared by any later version of numpy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fmrilm.cohort.store import TimeSeriesStore
from fmrilm.signals.dummy_scans import detect_dummy_scans

SIZE = 256  # numbers per sketch
LONG = 100  # volumes from which connectivity tells people apart
_MANY = 50  # regions from which connectivity alone does
_BLOCK = 1024  # scans compared at once

# Of different people correlate, in real data: series of 160 volumes 0.28 at most, windows of 8
# volumes around the same stimulus 0.86, FC less the group's mean 0.56. Of copies with 20% noise:
# 0.98 and more.
COPY_OF_LONG, COPY_OF_SHORT, COPY_OF_FC = 0.7, 0.93, 0.9
_CANDIDATE = 0.7  # of the FC sketches, where the series can be compared


@lru_cache(maxsize=8)
def _signs(name: str, rows: int) -> np.ndarray:
    """Return +1 and -1, shape (rows, SIZE); fewer rows are the first of more."""
    bits = np.unpackbits(
        np.frombuffer(hashlib.shake_256(name.encode()).digest(rows * SIZE // 8), np.uint8)
    )
    return (bits.astype(np.float32) * 2 - 1).reshape(rows, SIZE)


def standardised(series: np.ndarray) -> np.ndarray:
    """Return the series with mean 0 and mean square 1 per region; absent or constant regions 0.

    Dummy scans at the start of a long scan, which make all people alike, are 0 too.
    """
    values = np.nan_to_num(series, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    dummies = detect_dummy_scans(values) if values.shape[1] >= LONG else 0
    if dummies:
        return np.pad(_standardised(values[:, dummies:]), ((0, 0), (dummies, 0)))
    return _standardised(values)


def _standardised(values: np.ndarray) -> np.ndarray:
    centre = values.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    centred = values - centre
    scale = np.sqrt((centred**2).mean(axis=1, keepdims=True))
    # rounding leaves a constant row of large values a tiny spread
    varies = scale > 1e-6 * np.abs(centre)
    return np.divide(centred, scale, out=np.zeros_like(centred), where=varies & (scale > 0))


def sketch(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sketches of a scan's series and of its connectivity, unit length, shape (SIZE,).

    Parameters
    ----------
    series : ndarray, shape (n_rois, n_timepoints)
        NaN where a region is absent.
    """
    z = standardised(series)
    n_rois, n_times = z.shape
    left, right = _signs("left", n_rois), _signs("right", n_rois)
    over_regions = left.T @ z  # (SIZE, T)
    of_series = (over_regions * _signs("time", n_times).T).sum(axis=1)
    # u' C v for random u and v is a random projection of C; its diagonal is the same in all scans
    usable = (z**2).any(axis=1).astype(np.float32)
    of_fc = (over_regions * (right.T @ z)).mean(axis=1) - (left * right).T @ usable
    return _unit(of_series), _unit(of_fc)


def _unit(values: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.divide(values, norm, out=np.zeros_like(values), where=norm > 0)


@dataclass
class Fingerprints:
    """Fingerprints of many scans.

    Attributes
    ----------
    series, fc : ndarray, shape (n_scans, SIZE)
    lengths : ndarray of int
        Volumes of every scan.
    n_rois : int
    """

    series: np.ndarray
    fc: np.ndarray
    lengths: np.ndarray
    n_rois: int

    @classmethod
    def of(cls, store: TimeSeriesStore, indices: Sequence[int] | np.ndarray) -> Fingerprints:
        """Return the fingerprints of some scans of a store."""
        return cls.of_series((store.raw(int(index)) for index in indices), store.n_rois)

    @classmethod
    def of_series(cls, scans: Iterable[np.ndarray], n_rois: int | None = None) -> Fingerprints:
        """The fingerprints of series (R, T), in which absent regions are NaN."""
        pairs, lengths = [], []
        for series in scans:
            pairs.append(sketch(series))
            lengths.append(series.shape[1])
            n_rois = len(series)
        empty = np.zeros((0, SIZE), np.float32)
        return cls(
            np.stack([pair[0] for pair in pairs]) if pairs else empty,
            np.stack([pair[1] for pair in pairs]) if pairs else empty,
            np.array(lengths, dtype=int),
            n_rois or 0,
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __add__(self, other: Fingerprints) -> Fingerprints:
        return Fingerprints(
            np.concatenate([self.series, other.series]),
            np.concatenate([self.fc, other.fc]),
            np.concatenate([self.lengths, other.lengths]),
            self.n_rois,
        )


def candidates(
    these: Fingerprints, those: Fingerprints, fc_from: float = _CANDIDATE, slack: float = 0.1
) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs of scans that may be copies, with the larger correlation of their sketches.

    Parameters
    ----------
    these, those : Fingerprints
    fc_from : float
        Correlation of connectivity, less the mean of both groups, from which a pair is yielded.
    slack : float
        How far the sketches of two series may lie below the threshold of copies.
    """
    if these.n_rois != those.n_rois or not len(these) or not len(those):
        return
    centre = np.concatenate([these.fc, those.fc]).astype(np.float32).mean(axis=0)
    if len(these) + len(those) < 5:  # the mean of so few is mostly their own
        centre = np.zeros_like(centre)
    fc = [_unit(part.fc.astype(np.float32) - centre) for part in (these, those)]
    series = [part.series.astype(np.float32) for part in (these, those)]
    for start in range(0, len(these), _BLOCK):
        rows = slice(start, start + _BLOCK)
        for begin in range(0, len(those), _BLOCK):
            columns = slice(begin, begin + _BLOCK)
            lengths = these.lengths[rows, None], those.lengths[None, columns]
            by_series = series[0][rows] @ series[1][columns].T
            needed = np.where(lengths[0] >= LONG, COPY_OF_LONG, COPY_OF_SHORT) - slack
            near = (lengths[0] == lengths[1]) & (by_series >= needed)
            by_fc = fc[0][rows] @ fc[1][columns].T
            is_long = np.minimum(*lengths) >= LONG
            near |= is_long & (by_fc >= fc_from)
            for i, j in zip(*np.nonzero(near), strict=True):
                yield start + int(i), begin + int(j), float(max(by_series[i, j], by_fc[i, j]))


def same_content(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether two series are copies, also if one is cut, shifted, scaled, noisy.

    Parameters
    ----------
    first, second : ndarray, shape (n_rois, n_timepoints)
        Lengths may differ.
    """
    limit = COPY_OF_LONG if min(first.shape[1], second.shape[1]) >= LONG else COPY_OF_SHORT
    if first.shape[1] == second.shape[1] and _correlation(first, second) >= limit:
        return True
    if min(first.shape[1], second.shape[1]) < LONG:
        return False
    return _correlation(*_aligned(first, second)) >= limit


def _aligned(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the parts of two series that overlap best."""
    one, two = standardised(first), standardised(second)
    total = one.shape[1] + two.shape[1]
    product = np.fft.rfft(one, total) * np.conj(np.fft.rfft(two, total))
    summed = np.fft.irfft(product.sum(axis=0), total)
    lag = int(np.argmax(summed))
    lag = lag - total if lag > total // 2 else lag  # first[:, lag + t] goes with second[:, t]
    start, begin = max(lag, 0), max(-lag, 0)
    shared = min(one.shape[1] - start, two.shape[1] - begin)
    if shared < LONG // 2:
        return one[:, :0], two[:, :0]
    return first[:, start : start + shared], second[:, begin : begin + shared]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean over regions of the correlation over time, in the regions both have."""
    if first.shape[1] == 0:
        return 0.0
    one, two = standardised(first), standardised(second)
    both = one.any(axis=1) & two.any(axis=1)
    return float((one[both] * two[both]).mean()) if both.any() else 0.0


def find_copies(
    prints: Fingerprints, raw: Callable[[int], np.ndarray], asked: Callable[[int, int], bool]
) -> Iterator[tuple[int, int]]:
    """Yield the pairs of scans that are copies: by fingerprint, confirmed on the series.

    Parameters
    ----------
    prints : Fingerprints
    raw : callable
        Number of a scan -> its series.
    asked : callable
        Whether a pair of scans is looked at.
    """
    for i, j, _ in candidates(prints, prints):
        if i < j and asked(i, j) and same_content(raw(i), raw(j)):
            yield i, j


def match(seen: Fingerprints, asked: Fingerprints) -> list[int]:
    """Return the scans of ``asked`` that are copies of any of ``seen``, by fingerprints alone."""
    fc_from = COPY_OF_FC if asked.n_rois >= _MANY else np.inf
    pairs = candidates(asked, seen, fc_from, slack=0.0)
    return sorted({index for index, _, _ in pairs})
