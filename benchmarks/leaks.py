"""Planted leaks that `fmrilm audit` finds, and its false alarms over clean cohorts.

    python benchmarks/leaks.py

Clean: synthetic stand-ins of all seven cohorts (SYNTHETIC), and the cohorts of the real pain study
(`make setup` installs its package). Each leak of ``tests/planted_leaks.py`` is planted in the
stand-in of UKB; copies of a scan also among the short windows of the pain study. What is true of a
clean cohort (``TRUE_OF_...``) is no false alarm; a note is none either.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from fmrilm.checks.audit import find_leaks
from fmrilm.checks.finding import Finding
from fmrilm.cohort.cohort import Cohort
from fmrilm.datasets.heat_pain import demo_data
from fmrilm.datasets.synthetic.cohort import PLANS, simulate
from fmrilm.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from planted_leaks import COPIES, LEAKS, look, plant

# planted by the simulator (docs/synthetic-cohorts.md): disease and intelligence go with age
TRUE_OF_SYNTHETIC = {("field_predicts_label", "age")}
# measured: in all 33 people the head moves less while the heat is on than in the window before
TRUE_OF_PAIN = {("motion_predicts_label", "mean_fd")}


def clean_cohorts(place: Path, subjects: int, seed: int) -> list[Path]:
    """Return the folders of the clean cohorts."""
    folders = [
        simulate(str(place / name), cohort=name, subjects=subjects, seed=seed) for name in PLANS
    ]
    try:
        folders += demo_data(str(place / "pain"))
    except InputError as error:
        print(f"without the pain study: {error}", file=sys.stderr)
    for folder in folders:
        Cohort(folder)  # fits and writes the scaling where the norm needs one
    return folders


def is_false_alarm(finding: Finding, is_synthetic: bool) -> bool:
    """Return whether a finding on a clean cohort counts."""
    true = TRUE_OF_SYNTHETIC if is_synthetic else TRUE_OF_PAIN
    return finding.level != "note" and (finding.code, finding.where[0]) not in true


def main() -> int:
    """Plant, look, print; 1 if a leak is missed or a clean cohort gives an alarm."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--subjects", type=int, default=60, help="people per synthetic cohort")
    parser.add_argument("--seed", type=int, default=0, help="seed of the synthetic cohorts")
    given = parser.parse_args()
    start = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folders = clean_cohorts(place, given.subjects, given.seed)
        print(f"{'clean cohort':58s} false alarms")
        alarms, true = 0, 0
        for folder in folders:
            found = find_leaks([folder])
            cohort = Cohort(folder, "none")
            false = [f for f in found if is_false_alarm(f, cohort.info.synthetic)]
            alarms += len(false)
            true += sum(f.level != "note" for f in found) - len(false)
            others = [f"{f.code} {f.where[0]} ({f.level})" for f in found if f not in false]
            said = [finding.message for finding in false] + [f"true: {text}" for text in others]
            print(f"{cohort.name:58s} {len(false)}  {'; '.join(said)}", flush=True)
        bases = [(folders[0], name) for name in LEAKS]
        bases += [(folder, name) for folder in folders[len(PLANS) :][:1] for name in COPIES]
        print(f"\n{'planted leak':58s} found")
        missed = 0
        for number, (folder, leak) in enumerate(bases):
            (place / str(number)).mkdir()
            codes = [finding.code for finding in look(plant(leak, folder, place / str(number)))]
            is_found = LEAKS[leak][0] in codes
            missed += not is_found
            title = f"{leak} ({folder.name})"
            print(f"{title:58s} {'yes' if is_found else 'NO'}  {', '.join(codes)}", flush=True)
    print(
        f"\n{len(bases) - missed} of {len(bases)} leaks found, {alarms} false alarms (and {true} "
        f"warnings that are true of the data) over {len(folders)} clean cohorts, "
        f"{time.process_time() - start:.0f} s of CPU"
    )
    return int(bool(missed or alarms))


if __name__ == "__main__":
    sys.exit(main())
