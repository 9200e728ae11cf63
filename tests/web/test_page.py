"""The files of the page, what it shows of a scan, and what it exports."""

import re
import struct
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from serving import ask, choose, events_of, upload, write_series

from fmrilm.atlases.atlas import Atlas
from fmrilm.cohort.cohort import Cohort
from fmrilm.web.origins import brain_pictures
from fmrilm.web.views import carpet, difference, view_of

ASSETS = {item.name: item.read_text() for item in (files("fmrilm.web") / "assets").iterdir()}


class Tags(HTMLParser):
    """All tags of a page with their attributes, and the text between them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def atlas_of(count, networks=("A", "B")):
    names = tuple(f"r{i}" for i in range(count))
    rng = np.random.default_rng(0)
    of = tuple(networks[i % len(networks)] for i in range(count))
    return Atlas("x", names, names, of, ("",) * count, rng.uniform(-60, 60, (count, 3)))


def test_the_page_has_no_inline_code_and_asks_nobody_else():
    tags = Tags(ASSETS["index.html"])
    for tag, attributes in tags.tags:
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    for name, text in ASSETS.items():
        addresses = set(re.findall(r"https?://[^\"'\s)]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name
        assert "innerHTML" not in text
        assert "eval(" not in text


def test_the_files_are_small():
    assert max(text.count("\n") for text in ASSETS.values()) < 200


def test_every_input_has_a_label():
    tags = Tags(ASSETS["index.html"]).tags
    labelled = {attributes.get("for") for tag, attributes in tags if tag == "label"}
    inputs = {a.get("id") for tag, a in tags if tag in ("input", "select", "textarea")}
    assert inputs <= labelled


def test_not_for_clinical_use_is_always_there():
    assert "Not for clinical use" in Tags(ASSETS["index.html"]).text
    assert "Not for clinical use" in ASSETS["export.html"]


def test_coverage_and_connectivity_are_those_of_the_series():
    rng = np.random.default_rng(0)
    series = rng.standard_normal((8, 50))
    series[3] = np.nan
    view = view_of(series, atlas_of(8))
    assert view["coverage"] == [
        {"network": "A", "regions": 4, "usable": 4},
        {"network": "B", "regions": 4, "usable": 3},
    ]
    assert view["absent"] == ["r3"]
    pairs = [np.corrcoef(series[i], series[j])[0, 1] for i in (0, 2, 4, 6) for j in (1, 5, 7)]
    assert view["connectivity"][0][1] == pytest.approx(np.mean(np.arctanh(pairs)), abs=1e-4)
    assert difference(view, view) == [[0.0, 0.0], [0.0, 0.0]]


def test_a_network_without_a_pair_has_no_connectivity():
    series = np.random.default_rng(0).standard_normal((3, 50))
    view = view_of(series, atlas_of(3))
    assert view["connectivity"][1][1] is None


def test_the_carpet_has_a_row_per_region():
    series = np.random.default_rng(0).standard_normal((8, 50))
    series[3] = np.nan
    picture = carpet(series, atlas_of(8))
    assert struct.unpack(">2I", picture[16:24]) == (50, 8)


def test_regions_are_drawn_on_a_brain_where_their_place_is_known():
    pytest.importorskip("nilearn", reason="needs fmrilm[imaging]")
    atlas = atlas_of(8)
    pictures = brain_pictures(atlas, np.linspace(-1, 1, 8))
    assert set(pictures) == {"light", "dark"}
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    assert brain_pictures(Atlas.generic(8), np.ones(8)) == {}
    assert brain_pictures(atlas, np.zeros(8)) == {}


def origin(client, scan, **body):
    return events_of(client, client.post(f"/api/scans/{scan}/origins", json=body))


@pytest.mark.parametrize(("body", "explains"), [
    ({"task": "sex", "answer": "Female"}, "log-odds of Female"),
    ({"task": "age"}, "predicted age"),
])  # fmt: skip
def test_where_an_answer_comes_from(client, pipeline, body, explains):
    scan = choose(client, 2)["id"]
    events = origin(client, scan, **body)
    assert events[-1]["type"] == "done", events[-1]
    told = events[-1]["origin"]
    assert told["explains"] == explains
    assert {n["name"] for n in told["networks"]} == set(pipeline.processor.atlas.network_names)
    shares = sum(n["share"] for n in told["networks"])
    assert shares == pytest.approx(told["change"], abs=told["error"] * abs(told["change"]) + 1e-4)
    steps = [event["share"] for event in events if event["type"] == "progress"]
    assert steps == sorted(steps)
    assert len(steps) > 10


def test_only_answers_that_are_evaluated_are_attributed(client):
    scan = choose(client, 2)["id"]
    assert "no question 'weather'" in origin(client, scan, task="weather")[-1]["detail"]
    assert "unknown answer" in origin(client, scan, task="sex", answer="Both")[-1]["detail"]


def test_two_scans_are_compared(client):
    first, second = choose(client, 0), choose(client, 1)
    asked = [ask(client, scan["id"], "sex")[0] for scan in (first, second)]
    pair = {"first": first["id"], "second": second["id"]}
    result = client.get("/api/compare", params=pair).json()
    (line,) = result["questions"]
    assert [line["first"], line["second"]] == asked
    value = first["connectivity"][0][1] - second["connectivity"][0][1]
    assert result["difference"][0][1] == pytest.approx(value, abs=1e-3)
    assert client.get("/api/compare", params=pair | {"second": "none"}).status_code == 404


def test_the_export_is_one_file_with_everything_in_it(client, tmp_path):
    evil = "<script>alert(1)</script>"
    answer = upload(client, write_series(tmp_path / "a.npy"))
    scan = events_of(client, answer)[-1]["scan"]["id"]
    said = ask(client, scan)
    ask(client, scan, "What stands out?")
    origin(client, scan, task="sex")
    page = client.post("/api/export", json={"scans": [{"id": scan, "name": evil}]}).text
    tags = Tags(page)
    assert not [tag for tag, _ in tags.tags if tag in ("script", "link", "iframe", "object")]
    for _, attributes in tags.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset"):
            assert attributes.get(name, "data:").startswith("data:")
    assert "http" not in re.sub(r"<meta http-equiv", "", page)
    assert "url(" not in page
    assert evil in tags.text  # as text
    for each in said:
        assert each["question"] in tags.text
        assert each["worth"] in tags.text
    assert "What stands out?" in tags.text
    assert "Where it comes from" in tags.text
    assert "Not for clinical use" in tags.text


def test_the_scans_of_a_cohort_are_searched(client):
    everyone = client.get("/api/cohorts/0/scans").json()
    assert everyone["total"] == 50
    page = client.get("/api/cohorts/0/scans", params={"search": "SUB-03"}).json()
    assert [row["subject"] for row in page["scans"]] == ["sub-03"]
    assert client.get("/api/cohorts/7/scans").status_code == 404


@pytest.mark.parametrize(("split", "said"), [
    ("train", "trained on this scan"), ("val", "selected on this scan"), ("test", ""),
])  # fmt: skip
def test_a_scan_that_the_model_has_seen_is_said_to_be_one(client, place, tmp_path, split, said):
    scans = client.get("/api/cohorts/0/scans").json()["scans"]
    row = next(scan["row"] for scan in scans if scan["split"] == split)
    series, _ = Cohort(place / "cohort").store.read(row)
    np.save(tmp_path / "copy.npy", series)
    uploaded = events_of(client, upload(client, tmp_path / "copy.npy"))[-1]["scan"]
    for view in (choose(client, row), uploaded):
        notes = " ".join(view["notes"])
        assert said in notes
        assert said or "on this scan" not in notes


def test_the_wheel_holds_the_page():
    import tomllib
    from pathlib import Path, PurePath

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["fmrilm"]
    for name in ASSETS:
        assert any(PurePath(f"web/assets/{name}").match(pattern) for pattern in patterns), name
