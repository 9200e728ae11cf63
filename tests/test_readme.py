"""What the README shows runs, and what it links to exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from fmrilm.cli import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(tmp_path):
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    block = block.replace("subjects=60", "subjects=40").replace("timepoints=160", "timepoints=40")
    block = block.replace('"train.epochs=1"', '"train.epochs=1", "model.vq_model.n_embd=16"')
    block = block.replace('"train.epochs=1"', '"train.epochs=1", *SMALL')
    small = ["num_timestamp=40", "patch_size=40", "codebook_size=64", "n_layer=1", "n_head=2"]
    pairs = [f"model.vq_model.{one}" for one in small]
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    code = f"SMALL = {pairs}\n{block}\nprint(len(results))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("1")


def test_every_verb_of_the_readme_exists():
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.S))
    verbs = set(re.findall(r"^fmrilm ([a-z-]+)", blocks, re.M))
    assert verbs
    assert verbs <= set(COMMANDS)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)h#][^)]*)\)", README))))
def test_every_link_leads_somewhere(link):
    assert (ROOT / link).exists()
