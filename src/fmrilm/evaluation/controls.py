"""How much is the scan worth? The same questions with the scan taken away, swapped or blanked.

``text_only``   the scan is taken out of the prompt
``shuffled``    each scan is replaced by one of another person, within the site where possible
``tokens_swapped``   tokens of another person's scan before its own summary
``summary_swapped``  its own tokens before the summary of another person's scan
``zero``        every region is constantly zero
``phase``       each region's Fourier phases are drawn anew: spectra stay, connectivity goes
``sentence``    only the cohort's sentence and the question: neither scan nor facts
A model that reads the scan falls to chance without it; one that does not keeps its score. The two
swaps tell which part of a scan it reads; a model without summary tokens has none.
"""

from __future__ import annotations

import numpy as np

TOKENS_SWAPPED, SUMMARY_SWAPPED = SWAPS = ("tokens_swapped", "summary_swapped")
STANDARD = ("text_only", "shuffled", *SWAPS, "zero")
EXTENDED = (*STANDARD, "phase", "sentence")
TITLES = {
    "text_only": "text only",
    "shuffled": "shuffled scan",
    "tokens_swapped": "tokens swapped",
    "summary_swapped": "summary swapped",
    "zero": "zero scan",
    "phase": "phases randomised",
    "sentence": "cohort sentence only",
}
# The controls that must be beaten before the scan is said to add anything. The zero scan is shown
# but not asked for: a blank scan is unlike any scan, and a model may answer it either way.
DECISIVE = ("text_only", "shuffled")
N_SHUFFLES = 10
N_SWAPS, MAX_SWAPPED = 3, 200  # repetitions, as long as they read no more scans than that


def n_swaps(count: int) -> int:
    """Return how often the scans of a question are swapped: each time they are read anew."""
    return max(1, min(N_SWAPS, MAX_SWAPPED // count))


def shuffle_scans(
    subjects: np.ndarray, sites: np.ndarray, seed: int = 0, max_rounds: int = 200
) -> np.ndarray:
    """Return for each scan the position of the scan it is replaced by, shape (n,).

    A permutation in which no scan is replaced by one of the same person. Scans stay within their
    site; those of a site that has only one person, or one person with more than half of its scans,
    are exchanged over all such sites together.

    Parameters
    ----------
    subjects, sites : ndarray of str, shape (n,)
    seed : int
    max_rounds : int
        Passes of repairing scans that still meet their own person.
    """
    rng = np.random.default_rng(seed)
    _, owner = np.unique(subjects, return_inverse=True)
    group = np.array(sites, dtype=object)
    for site in np.unique(sites):
        members = owner[sites == site]
        if np.bincount(members).max() * 2 > len(members):
            group[sites == site] = None
    leftover = np.array([name is None for name in group])
    if leftover.any() and np.bincount(owner[leftover]).max() * 2 > leftover.sum():
        leftover[:] = True  # too few to exchange among themselves: give up the sites
    names = np.where(leftover, "", np.array([str(name) for name in group]))
    source = np.arange(len(subjects))
    for name in np.unique(names):
        members = np.flatnonzero(names == name)
        source[members] = _derange(members, owner, rng, max_rounds)
    return source


def _derange(
    members: np.ndarray, owner: np.ndarray, rng: np.random.Generator, max_rounds: int
) -> np.ndarray:
    """Return ``members`` permuted so that as few as possible meet a scan of their own person."""
    drawn = rng.permutation(members)
    for _ in range(max_rounds):
        clashes = np.flatnonzero(owner[drawn] == owner[members])
        if len(clashes) == 0:
            break
        for position in clashes:
            other = int(rng.integers(len(members)))
            drawn[position], drawn[other] = drawn[other], drawn[position]
    return drawn


def randomise_phases(series: np.ndarray, seed: int) -> np.ndarray:
    """Return series with the same mean and power spectrum, and phases drawn per region.

    Theiler et al. 1992, https://doi.org/10.1016/0167-2789(92)90102-S. Drawn independently, so
    that correlations between regions are lost too.

    Parameters
    ----------
    series : ndarray, shape (R, T)
    seed : int
    """
    length = series.shape[1]
    spectrum = np.fft.rfft(series, axis=1)
    phases = np.exp(2j * np.pi * np.random.default_rng(seed).uniform(size=spectrum.shape))
    phases[:, 0] = 1  # the mean
    if length % 2 == 0:
        phases[:, -1] = 1  # the Nyquist frequency is real
    return np.fft.irfft(spectrum * phases, n=length, axis=1).astype(series.dtype)
