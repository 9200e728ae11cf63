import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guide" / "prepare.md"


@pytest.mark.timeout(400)
def test_every_block_of_bring_your_own_study_runs(tmp_path):
    for package in ("nibabel", "nilearn"):
        pytest.importorskip(package, reason="needs fmrilm[imaging]")
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 8
    work, bin_folder = tmp_path / "work", tmp_path / "bin"
    work.mkdir()
    bin_folder.mkdir()
    (work / "examples").symlink_to(ROOT / "examples")
    for name, words in (("python", ""), ("fmrilm", "-m fmrilm")):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)]),
        "FMRILM_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (work / "runs/inst/evaluation/metrics.json").is_file()
    assert (work / "data/mine/data_packed/pack.json").is_file()
    assert "iq_enc" in (work / "data/lab/participants.tsv").read_text()
