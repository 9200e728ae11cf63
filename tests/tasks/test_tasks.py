import json
import math
from importlib.resources import files

import numpy as np
import pytest

from fmrilm.errors import InputError
from fmrilm.tasks import SCAN, TASKS, Task, build_conversation, build_prompt, build_report
from fmrilm.tasks.messages import word_fact

NAMES = pytest.mark.parametrize("name", list(TASKS))
LABELLED = [name for name, task in TASKS.items() if task.kind != "description"]


@NAMES
def test_every_task_has_twenty_different_wordings(name):
    questions = TASKS[name].questions
    assert len(questions) >= 20
    assert len({q.lower() for q in questions}) == len(questions)
    assert all(q == q.strip() and q[0].isupper() and q[-1] in "?." for q in questions)


@NAMES
def test_no_two_wordings_begin_alike_more_than_three_times(name):
    """Wordings that differ in a word or two teach the model one sentence."""
    beginnings = [" ".join(q.split()[:3]).lower() for q in TASKS[name].questions]
    assert max(beginnings.count(one) for one in beginnings) <= 3


@pytest.mark.parametrize("name", LABELLED)
def test_what_a_report_states_is_read_back(name):
    task = TASKS[name]
    other = TASKS["stimulus" if name != "stimulus" else "sex"]
    for index in range(len(task.candidates)):
        report = build_report([other, task], [1, index])
        assert task.parse_statement(report) == index
        assert other.parse_statement(report) == 1
    both = build_report([task, task], [0, len(task.candidates) - 1])
    assert task.parse_statement(both) is None
    assert task.parse_statement("Nothing can be said.") is None


@pytest.mark.parametrize("name", [n for n in LABELLED if TASKS[n].answers])
def test_no_question_names_only_one_answer_as_the_right_one(name):
    assert all(SCAN not in q for q in TASKS[name].questions)
    prompt = build_prompt(TASKS[name])
    assert all(candidate in prompt for candidate in TASKS[name].candidates)


def test_a_conversation_shows_the_scan_once_and_asks_each_task():
    tasks = [TASKS["sex"], TASKS["fluidintel_enc"], TASKS["age"]]
    turns = build_conversation(tasks, [0, 1, 2], "A cohort.", {"site": "A"})
    assert len(turns) == 3
    assert turns[0].count(SCAN) == 1
    assert SCAN not in "".join(turns[1:])
    for turn, task, variant in zip(turns, tasks, range(3), strict=True):
        assert task.questions[variant] in turn
        assert turn.endswith("Answer:")
    assert turns[0] == build_prompt(tasks[0], 0, "A cohort.", {"site": "A"})


def test_a_fact_that_reveals_any_answer_of_a_conversation_is_refused():
    with pytest.raises(InputError, match="reveals the answer of task 'age'"):
        build_conversation([TASKS["sex"], TASKS["age"]], [0, 0], facts={"age": 61})


def test_a_number_is_answered_with_the_nearest_value():
    age = TASKS["age"]
    assert age.candidates[age.class_index(61.3)] == "61"
    assert age.class_index(math.nan) is None
    with pytest.raises(ValueError, match="outside 5 to 100"):
        age.class_index(400)


def test_a_task_that_contradicts_itself_is_refused():
    with pytest.raises(InputError, match="values go with kind regression"):
        Task("x", "x", kind="regression")
    with pytest.raises(InputError, match="is none of"):
        Task("x", "x", kind="guess")


def test_every_prompt_file_belongs_to_a_task():
    found = {p.name.removesuffix(".json") for p in (files("fmrilm.tasks") / "prompts").iterdir()}
    assert found == set(TASKS)
    for name in found:
        json.loads((files("fmrilm.tasks") / "prompts" / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        *[(kind(23), "23") for kind in (int, float, np.int8, np.int64, np.float32, np.float64)],
        *[(kind(23.1), "23.1") for kind in (float, np.float32, np.float64)],
        (-0.5, "-0.5"),
        (True, "True"),
        (np.bool_(True), "True"),
        ("23.0", "23.0"),  # what is text in the table stays as it is
        ("site 3", "site 3"),
    ],
)
def test_a_fact_is_worded_alike_whatever_type_its_column_has(value, words):
    assert word_fact(value) == words
    assert f"age: {words}." in build_prompt(TASKS["sex"], facts={"age": value})
