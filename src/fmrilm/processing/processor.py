"""The processor: from a scan file, or raw region series, to what a model reads.

It holds all that a scan needs on another machine: the regions and their order, repetition time,
length, scaling and preparation of every training cohort, and how far a scan may lie from the
training scans. It is saved beside the weights (:data:`fmrilm.files.COMPANIONS`).

Tensor letters: B scans, R regions, T raw time points, N ``num_timestamp``, L text tokens.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmrilm.atlases.atlas import Atlas
from fmrilm.atlases.images import find_image
from fmrilm.cohort.cohort import Cohort
from fmrilm.cohort.reader import pad_scan, stack_masks
from fmrilm.cohort.scaling import Scaler
from fmrilm.config.schema import Config, read_model_config
from fmrilm.descriptors.measures.scans import usable_regions
from fmrilm.errors import InputError
from fmrilm.files import ATLAS, DRIFT, PROCESSOR
from fmrilm.preparation.scan import PrepareSettings, load_settings, prepare_scan
from fmrilm.preparation.sources.read import IMAGES
from fmrilm.processing.drift import Drift, DriftMeter, fit_drift
from fmrilm.processing.norms import ConnectivityNorms, OwnDescription, fit_norms
from fmrilm.processing.recipes import ReadyScan, ScanRecipe, recipe_of, scan_file, what_was_done
from fmrilm.readers import check_types, read_json, reading
from fmrilm.registry import suggest
from fmrilm.signals.resample import TooShortError
from fmrilm.studies.known import CohortInfo

if TYPE_CHECKING:
    from torch import Tensor

_REMEDY = "restore it, or train the run again"


class FMRIProcessor:
    """Prepare scans for a model as its training scans were prepared.

    Parameters
    ----------
    atlas : Atlas
        Regions in the order of the model's.
    num_timestamp : int
        Time points the model reads.
    recipes : mapping of str to ScanRecipe
        By the name of the training cohort.
    length : str
        ``pad``: shorter scans are padded; else they are refused.
    drift, norms : DriftMeter, ConnectivityNorms, optional
    folder : path, optional
        Of the model, for its text tokenizer.

    Examples
    --------
    >>> processor = FMRIProcessor.from_pretrained("runs/instruct")
    >>> inputs = processor(images="sub-01_task-rest_space-MNI152NLin6Asym_desc-preproc_bold.nii.gz",
    ...                    text="What is the sex of this person?")
    >>> model.generate(**inputs, max_new_tokens=8)
    """

    def __init__(
        self,
        atlas: Atlas,
        num_timestamp: int,
        recipes: Mapping[str, ScanRecipe],
        length: str = "clip",
        drift: DriftMeter | None = None,
        norms: ConnectivityNorms | None = None,
        folder: Path | None = None,
    ) -> None:
        if not recipes:
            raise InputError("a processor needs the recipe of one training cohort at least")
        self.atlas = atlas
        self.num_timestamp = num_timestamp
        self.recipes = dict(recipes)
        self.length = length
        self.drift = drift
        self.norms = norms
        self.folder = folder
        self._text: Any = None

    # Made, saved, loaded -------------------------------------------------------------------------

    @classmethod
    def from_cohorts(cls, cohorts: Sequence[Cohort], config: Config) -> FMRIProcessor:
        """The processor of a training on these cohorts; drift meter and norms read its scans."""
        recipes = {cohort.name: recipe_of(cohort) for cohort in cohorts}
        size = config.model.vq_model.num_timestamp
        meter, norms = fit_drift(cohorts), fit_norms(cohorts, size)
        return cls(cohorts[0].atlas, size, recipes, config.data.length, meter, norms)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``processor.json``, ``atlas.tsv``, ``drift.npz`` and ``norms.npz``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "processor_class": type(self).__name__,
            "atlas": self.atlas.name,
            "num_timestamp": self.num_timestamp,
            "length": self.length,
            "recipes": {name: dataclasses.asdict(r) for name, r in self.recipes.items()},
        }
        (folder / PROCESSOR).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        self.atlas.to_tsv(folder / ATLAS)
        if self.drift is not None:
            self.drift.save(folder / DRIFT)
        if self.norms is not None:
            self.norms.save(folder)

    @classmethod
    def from_pretrained(cls, place: str | Path, **hub: Any) -> FMRIProcessor:
        """Read what :meth:`save_pretrained` wrote.

        Parameters
        ----------
        place : path or str
            A run folder, its ``model/`` folder, or a name on the Hugging Face hub.
        **hub
            ``revision``, ``token``, ``cache_dir`` and ``local_files_only``, for a hub name.

        Raises
        ------
        InputError
            If there is no processor, or it is damaged.
        """
        from fmrilm.weights import model_folder, without_auto

        folder = model_folder(place, **without_auto(hub))
        path = folder / PROCESSOR
        if not path.is_file():
            raise InputError(
                f"{folder} has no {PROCESSOR}: its model was made by an earlier version; train the "
                "run again, or go on with it by --resume"
            )
        content = read_json(path, _REMEDY)
        kinds = {"atlas": str, "num_timestamp": int, "length": str, "recipes": dict}
        check_types(content, kinds, path, _REMEDY)
        with reading(path, _REMEDY):
            recipes = {name: ScanRecipe.of(saved) for name, saved in content["recipes"].items()}
        atlas = Atlas.read(folder / ATLAS, content["atlas"])
        drift = DriftMeter.load(folder / DRIFT) if (folder / DRIFT).is_file() else None
        norms = ConnectivityNorms.load(folder, atlas)
        size, length = content["num_timestamp"], content["length"]
        return cls(atlas, size, recipes, length, drift, norms, folder)

    def push_to_hub(self, repo_id: str, **hub: Any) -> str:
        """Upload the processor alone; ``FMRILM.push_to_hub`` takes it along with the model.

        Keywords are those of :func:`fmrilm.weights.upload`.
        """
        from fmrilm.weights import upload

        return upload(self.save_pretrained, repo_id, **hub)

    # Scans ---------------------------------------------------------------------------------------

    def recipe(self, cohort: str | None = None) -> tuple[str, ScanRecipe]:
        """The name and recipe of a training cohort; of the first without a name.

        Raises
        ------
        InputError
            If the run was not trained on it.
        """
        name = cohort or next(iter(self.recipes))
        if name not in self.recipes:
            raise InputError(
                f"the model was not trained on {name!r}{suggest(name, list(self.recipes))}; "
                f"prepared like: {', '.join(self.recipes)}"
            )
        return name, self.recipes[name]

    def read(
        self,
        path: str | Path,
        cohort: str | None = None,
        site: str | None = None,
        settings: Sequence[str] = (),
    ) -> ReadyScan:
        """Prepare a scan file as the training scans were prepared.

        Parameters
        ----------
        path : path
            NIfTI, CIFTI, a table, NPY, MAT; confounds beside it are used as in training.
        cohort : str, optional
            Whose recipe is followed; None: the first training cohort's.
        site : str, optional
            Where it was made; needed by the ``+site`` scalings.
        settings : sequence of str
            ``key=value`` settings of ``fmrilm prepare`` that differ, e.g. ``atlas_image=FILE``.

        Raises
        ------
        InputError
            If it cannot be read, has other regions, or is too short.
        """
        name, recipe = self.recipe(cohort)
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} not found: give a scan file, or COHORT_FOLDER:SUBJECT")
        file, options = scan_file(path), self._settings(recipe, path, settings)
        notes = []
        if file.confounds is None and options.strategy not in ("none", "auto"):
            notes.append(
                f"no table of confounds beside it: nothing regressed, unlike the training scans "
                f"(strategy={options.strategy})"
            )
            options = dataclasses.replace(options, strategy="none", confounds={})
        info = CohortInfo(name, recipe.description, t_r=recipe.t_r)
        try:
            prepared = prepare_scan(file, self.atlas, info, options)
        except TooShortError:
            raise InputError(
                f"{path.name} is too short: the model reads {self.num_timestamp} time points of "
                f"{recipe.t_r:g} s"
            ) from None
        piece = prepared.pieces[0]
        notes.insert(0, what_was_done(prepared.facts))
        if prepared.facts["notes"]:
            notes += prepared.facts["notes"].split("; ")
        kept = ~piece.censored
        scan = self._ready(path.name, piece.series, name, site, kept if not kept.all() else None)
        return dataclasses.replace(scan, notes=notes, facts=prepared.facts)

    def _settings(self, recipe: ScanRecipe, path: Path, changes: Sequence[str]) -> PrepareSettings:
        kept = recipe.settings
        image = kept.get("atlas_image")
        if image is not None and not Path(image).is_file():
            kept["atlas_image"] = None  # a path of the machine it was trained on
        options = dataclasses.replace(load_settings(changes), **{
            key: value for key, value in kept.items()
            if not any(change.partition("=")[0].partition(".")[0] == key for change in changes)
        })  # fmt: skip
        needs_image = path.name.endswith(IMAGES) and not path.name.endswith(".ptseries.nii")
        image = options.atlas_image
        if needs_image and not path.name.endswith(".dtseries.nii"):
            image = str(find_image(self.atlas, options.atlas_image))
        cut: dict[str, Any] = {}
        if "length" not in kept:  # a store that was not prepared here: scaled as long as it is
            length = "pad" if self.length == "pad" else "keep"
            cut = {"length": length, "n_timepoints": self.num_timestamp}
        return dataclasses.replace(options, atlas_image=image, target_t_r=recipe.t_r, **cut)

    def series(
        self,
        series: np.ndarray,
        cohort: str | None = None,
        site: str | None = None,
        name: str = "series",
    ) -> ReadyScan:
        """Scale ready series: the atlas's regions, sampled at the training scans' rate.

        Parameters
        ----------
        series : ndarray, shape (R, T)
            Not scaled; rows that are constant or hold NaN are absent regions.
        cohort, site : str, optional
            As for :meth:`read`.
        name : str
        """
        series = np.asarray(series, dtype=np.float32)
        if series.ndim != 2 or len(series) != len(self.atlas):
            raise InputError(
                f"{name} has the shape {series.shape}, the model reads ({len(self.atlas)}, time "
                f"points) of the atlas {self.atlas.name}"
            )
        return self._ready(name, series, self.recipe(cohort)[0], site, None)

    def sample(self, cohort: Cohort, index: int) -> ReadyScan:
        """A scan of a cohort folder, scaled as that cohort is."""
        from fmrilm.cohort.reader import ScanReader

        if cohort.store.n_rois != len(self.atlas):
            raise InputError(
                f"{cohort.name} has {cohort.store.n_rois} regions, the model reads "
                f"{len(self.atlas)} of {self.atlas.name}"
            )
        fmri, mask = ScanReader(cohort, self.num_timestamp, self.length).batch([index])
        raw, usable = cohort.store.read(index)
        fd = cohort.table.iloc[index].get("mean_fd")
        return ReadyScan(
            f"{cohort.store.subjects[index]} {cohort.store.sessions[index]}",
            fmri[0],
            mask[0],
            np.where(usable[:, None], raw, np.float32(np.nan)),
            cohort.name,
            facts={} if fd is None else {"mean_fd": fd},
            origin=(cohort, index),
        )

    def _ready(
        self, name: str, series: np.ndarray, cohort: str, site: str | None, kept: np.ndarray | None
    ) -> ReadyScan:
        usable = usable_regions(series)
        if not usable.any():
            raise InputError(f"{name} has no region with a signal")
        if series.shape[1] < self.num_timestamp and self.length != "pad":
            raise InputError(
                f"{name} has {series.shape[1]} time points, the model reads {self.num_timestamp}: "
                "it is too short"
            )
        scaler = Scaler.from_dict(self.recipes[cohort].scaling)
        scaled, mask = scaler.transform(np.where(usable[:, None], series, 0), usable, site)
        scaled = np.where(mask[:, None], scaled, np.float32(0))[:, : self.num_timestamp]
        fmri, roi_mask = pad_scan(scaled.astype(np.float32), mask, self.num_timestamp, kept)
        raw = np.where(usable[:, None], series, np.float32(np.nan))
        return ReadyScan(name, fmri, roi_mask, raw, cohort)

    def unlike(self, scan: ReadyScan) -> Drift | None:
        """How unlike the training scans a scan is; None where the model has no meter."""
        if self.drift is None:
            return None
        return self.drift.compare(scan.series[:, : self.num_timestamp], scan.displacement)

    def describe(self, scan: ReadyScan) -> OwnDescription | None:
        """What a scan's own measures say of it; None where the model has no norms."""
        if self.norms is None:
            return None
        size = self.num_timestamp
        return self.norms.describe(scan.series[:, :size], scan.censored[:size])

    # As transformers calls a processor -----------------------------------------------------------

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        cohort: str | None = None,
        site: str | None = None,
    ) -> dict[str, Any]:
        """What ``model.generate`` takes.

        Parameters
        ----------
        images : path, ndarray (R, T), ReadyScan, or a sequence of them
        text : str or sequence of str, optional
            A question for all scans, or one for each.
        cohort, site : str, optional
            As for :meth:`read`.

        Returns
        -------
        inputs : dict
            ``fmri`` (B, R, N), ``roi_mask`` (B, R) or (B, R, N); with text ``input_ids`` and
            ``attention_mask`` (B, L), the scan's places in them.
        """
        import torch

        inputs: dict[str, Any] = {}
        scans: list[ReadyScan] = []
        if images is not None:
            given = images if isinstance(images, (list, tuple)) else [images]
            scans = [self._any(one, cohort, site) for one in given]
            inputs["fmri"] = torch.stack([scan.fmri for scan in scans]).float()
            inputs["roi_mask"] = stack_masks([scan.roi_mask for scan in scans])
        if text is not None:
            from fmrilm.lm.text import with_scan

            count = max(len(scans), 1)
            asked = [text] * count if isinstance(text, str) else list(text)
            if scans and len(asked) != count:
                raise InputError(f"{len(asked)} questions for {count} scans: give one for each")
            prompts = [with_scan(one) if scans else one for one in asked]
            inputs |= self.text.batch([self.text.prompt_ids(prompt) for prompt in prompts])
        return inputs

    def _any(self, given: Any, cohort: str | None, site: str | None) -> ReadyScan:
        if isinstance(given, ReadyScan):
            return given
        if isinstance(given, (str, Path)):
            return self.read(given, cohort, site)
        return self.series(np.asarray(given), cohort, site)

    @property
    def text(self) -> Any:
        """The text encoder of the model, read when first used."""
        if self._text is None:
            if self.folder is None:
                raise InputError("the processor was made without a model: it encodes no text")
            from fmrilm.lm.language_models import load_any_text_tokenizer
            from fmrilm.lm.text import TextEncoder

            config = read_model_config(self.folder / "config.json", ("vq_model", "lm"))
            self._text = TextEncoder.of(load_any_text_tokenizer(str(self.folder / "lm")), config)
        return self._text

    def batch_decode(self, ids: Tensor, skip_special_tokens: bool = True) -> list[str]:
        """The texts of generated token ids (B, L)."""
        decode = self.text.text_tokenizer.batch_decode
        return [text.strip() for text in decode(ids, skip_special_tokens=skip_special_tokens)]
