"""Family ``gradient``: the main axes of a scan's connectivity, aligned to the training group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fmrilm.descriptors.base import DESCRIPTORS, Descriptor
from fmrilm.descriptors.connectivity import correlation, fisher_z
from fmrilm.descriptors.measures.diffusion import align, cosine_affinity, diffusion_map
from fmrilm.descriptors.measures.networks import membership, network_mean, network_order
from fmrilm.descriptors.measures.scans import training_scans
from fmrilm.descriptors.text.facts import Fact, Quantity, Statement, measure_name
from fmrilm.descriptors.text.wording import network_name
from fmrilm.errors import InputError

SENSORY = ("Vis", "SomMot")
TRANSMODAL = "Default"
MIN_SHARE = 0.25  # of a gradient's variance between networks, beyond chance, for named poles


def _quantities(number: int) -> tuple[Quantity, Quantity, Quantity]:
    name = f"gradient {number}"
    return (
        Quantity(
            f"gradient{number}_range",
            f"{name} range",
            (f"range of {name}",),
            higher=f"a wider spread along {name}",
            lower=f"poles of {name} that lie closer together",
        ),
        Quantity(f"gradient{number}_variance", f"{name} variance", (f"variance of {name}",)),
        Quantity(f"gradient{number}", f"{name} position", (f"position on {name}",)),
    )


@DESCRIPTORS.register("gradient")
class Gradients(Descriptor):
    """Diffusion-map gradients of functional connectivity.

    Fitting averages the training scans' connectivity (Fisher z) and embeds it: the template.
    A scan's own embedding of ten components is rotated to the template's by Procrustes; the first
    three are measured (a rotation within three alone mixes in what the fourth holds). Measures per
    gradient k = 1, 2, 3:
    ``gradient<k>_range``, ``gradient<k>_variance``, ``gradient<k>__<network>`` (mean position).
    Their z is against the distribution over training scans.

    Where the atlas has the networks Vis, SomMot and Default, the template's first gradient is
    signed so that Default lies above the sensory networks; otherwise signs are arbitrary (the
    largest entry of the template is positive), the same for every scan. The text names the poles
    of a gradient: the networks that lie lowest and highest in the template. A gradient along which
    networks do not lie apart (they hold less than a quarter of its variance) is not told.

    Parameters
    ----------
    networks, t_r, names
        As in :class:`Descriptor`.
    kept : float
        Share of each region's connections that enters the affinity. It is doubled, for this scan,
        as long as the affinity falls into pieces that no axis spans (seen with few regions).
    alpha : float
        Of the diffusion map.

    Attributes
    ----------
    template_ : ndarray, shape (n_rois, n_components)
        Ten components, or as many as the regions allow; NaN for regions that no training scan has.
    eigenvalues_ : ndarray, shape (n_components,)

    Examples
    --------
    >>> family = Gradients(networks=["Vis"] * 10 + ["Default"] * 10).fit(train_scans)
    >>> family.describe(test_scans)
    """

    family = "gradient"
    title = "Connectivity gradients"
    in_time = False
    min_rois = 10
    template = ("template_", "eigenvalues_")
    n_components = 3  # that are measured
    n_aligned = 10  # that are rotated to the template
    quantities = (*_quantities(1), *_quantities(2), *_quantities(3))
    n_told = 2

    def __init__(
        self,
        networks: Sequence[str],
        t_r: float = 2.0,
        names: Sequence[str] | None = None,
        kept: float = 0.1,
        alpha: float = 0.5,
    ) -> None:
        super().__init__(networks, t_r, names)
        self.kept = kept
        self.alpha = alpha

    def measure_names(self) -> list[str]:
        """Return the names of the measures."""
        order = network_order(self.networks)
        names = []
        for k in range(1, self.n_components + 1):
            names += [f"gradient{k}_range", f"gradient{k}_variance"]
            names += [measure_name(f"gradient{k}", name) for name in order]
        return names

    def fit_template(self, scans: Iterable[np.ndarray]) -> Gradients:
        """Learn ``template_`` from the mean connectivity of the training scans.

        Raises
        ------
        InputError
            If no training scan has enough data.
        """
        mean = mean_connectivity(scans, len(self.networks), self.min_timepoints)
        known = np.isfinite(mean).sum(0) > self.min_rois
        if known.sum() < self.min_rois:
            raise InputError(
                f"gradient: the training scans have too little data for a template (at least "
                f"{self.min_rois} regions and {self.min_timepoints} time points)"
            )
        inside = np.nan_to_num(mean[np.ix_(known, known)])
        try:
            gradients, self.eigenvalues_ = self._embed(inside, self.n_aligned)
        except ValueError as error:
            raise InputError(f"gradient: no template from the training scans: {error}") from None
        self.template_ = np.full((len(self.networks), gradients.shape[1]), np.nan)
        self.template_[known] = gradients * self._signs(gradients, known)
        return self

    def measure(self, series: np.ndarray, usable: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Return the measures of one scan."""
        gradients = self.embed_scan(series, usable)
        members = membership(self.networks, usable)
        values = []
        for position in gradients.T:
            known = np.isfinite(position)
            inside = position[known]
            if len(inside) == 0:
                values.append(np.full(2 + len(members), np.nan))
                continue
            spread = (inside.max() - inside.min(), inside.var())
            values.append(np.concatenate((spread, network_mean(inside, members[:, known]))))
        return np.concatenate(values)

    def embed_scan(self, series: np.ndarray, usable: np.ndarray) -> np.ndarray:
        """Return a scan's aligned gradients, shape (n_usable, 3); NaN where they do not exist."""
        known = usable & np.isfinite(self.template_[:, 0])
        result = np.full((len(usable), self.n_components), np.nan)
        if known.sum() >= self.min_rois:
            try:
                gradients, _ = self._embed(correlation(series[known]), self.template_.shape[1])
                template = self.template_[known, : gradients.shape[1]]
                result[known] = align(gradients, template)[:, : self.n_components]
            except ValueError:  # connectivity in separate pieces has no common axis: unmeasured
                pass
        return result[usable]

    def choose(self, facts: dict[str, Fact]) -> list[Statement]:
        """Return ranges, the furthest networks per gradient, and the scan's own poles."""
        statements = []
        poles = self.poles()
        for k in range(1, self.n_components + 1):
            if k not in poles:
                continue
            spread = [facts[n] for n in (f"gradient{k}_range",) if n in facts]
            if k == 1:
                spread += [facts[n] for n in ("gradient1_variance",) if n in facts]
            if spread:
                statements.append(Statement("level", tuple(spread)))
            local = [f for f in facts.values() if f.quantity == f"gradient{k}"]
            far = sorted(local, key=lambda f: -abs(f.z))[: self.n_told + (k == 1)]
            if far:
                statements.append(Statement("compare", tuple(far)))
        first = sorted(
            (f for f in facts.values() if f.quantity == "gradient1"), key=lambda f: -f.value
        )
        if len(first) > 1 and 1 in poles:
            statements.append(Statement("strongest", (first[0],)))
            statements.append(Statement("weakest", (first[-1],)))
        if statements:
            runs = [
                f"{k} {'runs ' if k == min(poles) else ''}from {network_name(low)} to "
                f"{network_name(high)}"
                for k, (low, high) in poles.items()
            ]
            statements.insert(0, Statement("note", text=f"Gradient {', '.join(runs)}."))
        return statements

    def poles(self) -> dict[int, tuple[str, str]]:
        """Return the lowest and highest network of each gradient along which networks lie apart."""
        known = np.isfinite(self.template_[:, 0])
        members = membership(self.networks, known)
        order = np.array(network_order(self.networks), dtype=object)[members.any(axis=1)]
        members = members[members.any(axis=1)]
        inside = members.any(axis=0)
        poles = {}
        for k in range(self.n_components if len(order) > 1 else 0):
            position = self.template_[known, k]
            means = network_mean(position, members)
            rest = (position - means @ members)[inside]
            chance = (inside.sum() - 1) / max(inside.sum() - len(order), 1)
            if 1 - chance * rest.var() / position[inside].var() >= MIN_SHARE:
                poles[k + 1] = (str(order[means.argmin()]), str(order[means.argmax()]))
        return poles

    def _embed(self, matrix: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
        """Return as many of the wanted components as the regions allow, and their eigenvalues."""
        kept, count = self.kept, min(wanted, len(matrix) - 2)
        while True:
            try:
                affinity = cosine_affinity(matrix, kept)
                return diffusion_map(affinity, count, self.alpha)
            except ValueError:
                if kept >= 1:
                    raise
                kept = min(1.0, 2 * kept)

    def _signs(self, gradients: np.ndarray, known: np.ndarray) -> np.ndarray:
        largest = np.abs(gradients).argmax(0)
        signs = np.sign(gradients[largest, np.arange(gradients.shape[1])])
        labels = np.asarray(self.networks, dtype=object)[known]
        sensory, transmodal = np.isin(labels, SENSORY), labels == TRANSMODAL
        if sensory.any() and transmodal.any():
            contrast = gradients[transmodal, 0].mean() - gradients[sensory, 0].mean()
            signs[0] = 1.0 if contrast >= 0 else -1.0
        return signs


def mean_connectivity(scans: Iterable[np.ndarray], n_rois: int, min_timepoints: int) -> np.ndarray:
    """Return the mean correlation over scans (averaged as Fisher z), NaN for unseen pairs.

    One scan is in memory at a time.
    """
    total = np.zeros((n_rois, n_rois))
    count = np.zeros((n_rois, n_rois))
    for series, usable, kept in training_scans(scans, n_rois, 2, min_timepoints):
        where = np.ix_(usable, usable)
        total[where] += fisher_z(correlation(series[np.ix_(usable, kept)]))
        count[where] += 1
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.tanh(total / count)
