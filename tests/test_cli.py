import dataclasses
import inspect
import subprocess
import sys
import time
from importlib import import_module

import pytest

from fmrilm.cli import COMMANDS, main, options_of
from fmrilm.evaluation.evaluate import evaluate
from fmrilm.evaluation.options import EvaluationOptions
from fmrilm.preparation.scan import PrepareSettings


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "fmrilm", *words], capture_output=True, text=True, timeout=120
    )


def test_help_answers_in_half_a_second_without_torch():
    code = (
        "import sys, fmrilm.cli\n"
        "try: fmrilm.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'nilearn', 'pandas', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    times = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        times.append(time.perf_counter() - started)
        assert done.returncode == 0, done.stderr
    assert min(times) < 0.5, times


def test_import_needs_no_torch():
    code = "import sys, fmrilm; assert 'torch' not in sys.modules; fmrilm.load_config()"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"fmrilm {verb}" in shown
    module, _, name = COMMANDS[verb].target.partition(":")
    doc = inspect.getdoc(getattr(import_module(module), name))
    for line in doc.partition("Examples\n--------")[2].split("\n"):
        assert " ".join(line.split()) in shown  # brackets and all: rich reads them as markup


def test_the_settings_of_prepare_are_explained(capsys):
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    shown = capsys.readouterr().out
    for field in dataclasses.fields(PrepareSettings):
        assert f"\n {field.name}" in shown
    assert "confounds.columns=[csf,white_matter]" in shown


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_is_explained(verb):
    module, _, name = COMMANDS[verb].target.partition(":")
    function = getattr(import_module(module), name)
    options = options_of(function)
    assert options or not inspect.signature(function).parameters
    assert [option.parameter.name for option in options if not option.help] == []


def test_a_dataclass_of_options_gives_a_flag_per_field():
    names = {option.parameter.name for option in options_of(evaluate)}
    assert {"runs", "split", "lm_name", "use_allowed_tokens"} <= names
    assert not {"options", "changes"} & names
    assert EvaluationOptions(split="val").scored_split == "val"
    with pytest.raises(TypeError, match="splits"):
        evaluate(["run"], splits="val")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "pretrain"], "unknown stage"),
        (["train", "align", "-o", "x", "data.dataset_dir=[nowhere]"], "nowhere"),
        (["train", "tokenizer", "-o", "x"], "no cohort given"),
        (["train", "tokenizer"], "run folder"),
        (["train", "tokenizer", "-o", "x", "--quantiser", "vq"], "did you mean 'quantizer'"),
        (["train", "tokenizer", "-c", "no.yaml", "-o", "x"], "no.yaml not found"),
    ],
)
def test_wrong_input_gets_one_sentence_and_exit_code_2(words, message):
    done = run(*words)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_verb_is_refused():
    done = run("trian")
    assert done.returncode == 2
    assert "train" in done.stderr
