"""`fmrilm report`: one HTML file that shows what runs are worth, readable without a network."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from fmrilm import __version__
from fmrilm.errors import InputError
from fmrilm.reporting.collect import Chain, collect
from fmrilm.reporting.glance import EXPLAINED
from fmrilm.reporting.task_view import task_view
from fmrilm.reporting.views import cohort_view, description_view, run_view, tokenizer_view


def report(runs: list[str], *, output: str = "report.html", title: str = "") -> Path:
    """Make one self-contained HTML page from runs and what `fmrilm evaluate` found of them.

    Shows the results beside baselines and controls, learning curves of every stage, codebook use,
    reconstructed series, the group's connectivity, ROC and confusion per task, sample texts,
    lineage and configuration. Synthetic cohorts are marked wherever they appear.

    Parameters
    ----------
    runs : list of str
        Run folders; the runs they started from are followed.
    output : str
        The file to write.
    title : str
        Heading of the page; empty: the names of the cohorts.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If no run is given.
    FileNotFoundError
        If a run folder is incomplete or its cohort is gone.

    Examples
    --------
    fmrilm report runs/instruct -o report.html
    """
    if not runs:
        raise InputError("no run given: fmrilm report RUN [RUN ...] -o report.html")
    chains = [collect(run) for run in runs]
    views = [_chain_view(chain) for chain in chains]
    names = dict.fromkeys(cohort.name for chain in chains for cohort in chain.cohorts)
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    page = render("report.html", title=title or ", ".join(names), runs=views)
    path.write_text(page, encoding="utf-8")
    print(f"report in {path}")
    return path


def _chain_view(chain: Chain) -> dict[str, Any]:
    from fmrilm.tokenizer.tokenizer import FMRITokenizer

    tokenizer = FMRITokenizer.from_pretrained(chain.tokenizer_folder)
    return {
        **run_view(chain),
        "tasks": [task_view(result) for result in chain.results],
        "descriptions": [description_view(found) for found in chain.descriptions],
        "cohorts": [
            {**cohort_view(cohort), "tokenizer": tokenizer_view(cohort, tokenizer)}
            for cohort in chain.cohorts
        ],
    }


def render(template: str, **values: Any) -> str:
    """Return a page from one of the templates, with the style sheet inlined."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read_template),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(explained=EXPLAINED)
    return environment.get_template(template).render(version=__version__, **values)


def _read_template(name: str) -> str:
    return (files("fmrilm.reporting") / "templates" / name).read_text(encoding="utf-8")
