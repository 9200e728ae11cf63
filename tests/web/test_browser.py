"""The page in a real browser: what people press, on both sizes and in both themes.

Needs playwright and Chromium (`make browser`); FMRILM_SCREENSHOTS names a folder for pictures.
"""

import base64
import os
import re
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from serving import make_studio, serving, write_series

from asking_helpers import image

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (make browser)")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
if not CHROMIUM:
    pytest.skip("needs Chromium (apt-get install chromium)", allow_module_level=True)

AXE = Path(__file__).parents[2] / ".axe/node_modules/axe-core/axe.min.js"
SIZES = {"laptop": (1366, 860), "phone": (390, 844)}
SETTLED = 15_000  # milliseconds
expect = playwright.expect


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def worker():
    from fmrilm.web.worker import Worker

    return Worker()


@pytest.fixture(scope="module")
def runs(place, tmp_path_factory):
    """The run with places for its regions, so that there is a brain to see; and a second name."""
    import pandas as pd

    root = tmp_path_factory.mktemp("runs")
    for name in ("first", "second"):
        shutil.copytree(place / "run", root / name)
        path = root / name / "model/atlas.tsv"
        table = pd.read_csv(path, sep="\t")
        where = np.random.default_rng(0).uniform(-50, 50, (len(table), 3)).round(1)
        table[["x", "y", "z"]] = where
        table.to_csv(path, sep="\t", index=False)
    return root


@pytest.fixture(scope="module")
def url(place, runs, worker):
    from fmrilm.asking.pipeline import FMRIPipeline
    from fmrilm.web.guard import Door

    pipelines = [FMRIPipeline(runs / name) for name in ("first", "second")]
    studio = make_studio(pipelines, [place / "cohort"], most=2**22)
    with serving(studio, worker, Door(most_upload=studio.uploads.most)) as address:
        yield address


@contextmanager
def visit(browser, url, size="laptop", theme="light", server="", **options):
    """An open page; in the end nothing went wrong in it, and it asked nobody but its server."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, **options
    )
    page, wrong, asked = context.new_page(), [], []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda said: wrong.append(said.text) if "Content Security" in said.text else 0
    )
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    expect(page.locator("#list option").first).to_be_attached()
    yield page
    context.close()
    assert wrong == []
    assert {
        address for address in asked if not address.startswith((server or url, "blob:"))
    } == set()


def open_scan(page, place=0):
    count = page.locator("#held > span").count()
    page.select_option("#list", index=place)
    page.click("text=Open scan")
    expect(page.locator("#held > span")).to_have_count(count + 1, timeout=SETTLED)


def ask_all(page):
    page.click("text=All questions")
    expect(page.locator("#turns .worth")).to_have_count(2, timeout=SETTLED)
    expect(page.locator("#turns progress")).to_have_count(0)


def drop(page, *paths):
    """Drop files on the page as a file manager would."""
    files = [
        {"name": path.name, "content": base64.b64encode(path.read_bytes()).decode()}
        for path in paths
    ]
    transfer = page.evaluate_handle(
        """(files) => {
            const transfer = new DataTransfer();
            for (const { name, content } of files) {
                const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], name));
            }
            return transfer;
        }""",
        files,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def picture(page, name):
    folder = os.environ.get("FMRILM_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_choose_ask_and_see_where_it_comes_from(browser, url, size, theme):
    with visit(browser, url, size, theme) as page:
        expect(page.locator(".warning")).to_be_visible()
        expect(page.locator(".warning")).to_contain_text("Not for clinical use")
        open_scan(page)
        ask_all(page)
        first = page.locator("#turns .turn").first
        first.get_by_text("Where it comes from").click()
        expect(page.locator("#turns .brain")).to_be_visible(timeout=60_000)
        expect(page.locator("#turns .both").first).to_contain_text("Visual")
        expect(page.locator("#said")).to_contain_text("Attribution is ready")
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0
        expect(page.locator(".warning")).to_be_in_viewport()
        picture(page, f"asked-{size}-{theme}")


@pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core (make browser)")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_in_the_way_of_a_screen_reader(browser, url, tmp_path, size, theme):
    with visit(browser, url, size, theme, bypass_csp=True) as page:
        page.add_script_tag(path=str(AXE))
        problems = violations(page, "empty")
        open_scan(page)
        open_scan(page, 1)
        ask_all(page)
        page.locator("#turns .turn .link").first.click()
        expect(page.locator("#turns .brain")).to_be_visible(timeout=60_000)
        page.evaluate(
            "document.querySelectorAll('details').forEach((part) => { part.open = true; })"
        )
        page.click("#pair button")
        expect(page.locator("#compared figure")).to_be_visible()
        problems += violations(page, "full")
        page.set_input_files("#file", write_series(tmp_path / "noise.npy"))
        expect(page.locator("#view .notice")).to_be_visible(timeout=SETTLED)
        ask_all(page)
        (tmp_path / "bad.nii.gz").write_bytes(b"no gzip")
        page.set_input_files("#file", tmp_path / "bad.nii.gz")
        expect(page.get_by_role("alert")).to_be_visible(timeout=SETTLED)
        problems += violations(page, "strange scan, bad file")
    assert problems == []


def violations(page, state):
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    result = page.evaluate("(tags) => axe.run({ runOnly: tags })", tags)
    return [
        (state, problem["id"], node["target"], node.get("failureSummary", "")[:200])
        for problem in result["violations"]
        for node in problem["nodes"]
    ]


def test_a_dropped_image_is_answered_as_it_is_in_python(browser, url, place):
    from fmrilm.asking.pipeline import FMRIPipeline

    scan = image(place, "sub-03")
    confounds = next(scan.parent.glob("*confounds_timeseries.tsv"))
    expected = FMRIPipeline(place / "run")(scan, "sex").answers[0].probabilities
    with visit(browser, url) as page:
        drop(page, scan, confounds)
        expect(page.locator("#view h3")).to_have_text(scan.name, timeout=30_000)
        page.locator("#questions button").nth(1).click()
        expect(page.locator("#turns .worth")).to_have_count(1, timeout=SETTLED)
        rows = page.locator("#turns .bars li").all_inner_texts()
    shown = dict(re.split(r"\s+", row.strip()) for row in rows)
    assert shown == {name: f"{100 * share:.1f}%" for name, share in expected.items()}


def test_a_free_answer_is_streamed_and_marked(browser, url):
    with visit(browser, url) as page:
        open_scan(page)
        page.fill("#words", "What stands out?")
        page.keyboard.press("Enter")
        expect(page.locator("#turns .worth")).to_contain_text("never evaluated", timeout=30_000)
        expect(page.locator("#turns h3")).to_have_text("What stands out?")


def test_what_a_model_or_a_file_is_called_is_never_code(browser, url, tmp_path):
    name = "<img src=x onerror=alert(1)>.npy"
    with visit(browser, url) as page:
        page.on("dialog", lambda dialog: pytest.fail("code ran"))
        path = write_series(tmp_path / "a.npy")
        content = {
            "name": name,
            "mimeType": "application/octet-stream",
            "buffer": path.read_bytes(),
        }
        page.set_input_files("#file", [content])
        expect(page.locator("#view h3")).to_have_text(name, timeout=SETTLED)
        assert page.locator("#view h3 img").count() == 0


def test_a_strange_scan_is_greyed_and_it_is_said(browser, url, tmp_path):
    with visit(browser, url) as page:
        page.set_input_files("#file", write_series(tmp_path / "noise.npy"))
        expect(page.locator("#view .notice")).to_contain_text("unlike the training scans")
        ask_all(page)
        expect(page.locator("#turns .unlike")).to_have_count(2)
        expect(page.locator("#turns .unlike .notice").first).to_contain_text("Greyed")
        picture(page, "strange")


def test_a_bad_file_and_a_large_one_are_one_sentence(browser, url, tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"no gzip")
    (tmp_path / "large.npy").write_bytes(bytes(5 * 2**20))
    with visit(browser, url) as page:
        page.set_input_files("#file", tmp_path / "bad.nii.gz")
        expect(page.get_by_role("alert")).to_contain_text("no gzip file", timeout=SETTLED)
        picture(page, "bad-file")
        page.set_input_files("#file", tmp_path / "large.npy")
        expect(page.get_by_role("alert")).to_contain_text("larger than 4 MB")
        open_scan(page)
        expect(page.locator("#problem")).to_be_hidden()


def test_a_question_is_cancelled(browser, url, worker):
    from fmrilm.web.worker import Job

    gate = threading.Event()
    with visit(browser, url) as page:
        open_scan(page)
        worker.submit(Job("blocker", lambda job: {"free": gate.wait(30)}))
        try:
            page.locator("#questions button").nth(1).click()
            expect(page.locator("#turns .work")).to_contain_text("Waiting behind 1")
            page.get_by_role("button", name="Cancel").click()
            expect(page.locator("#turns .turn")).to_have_count(0)
            expect(page.locator("#said")).to_have_text("Cancelled")
            page.locator("#list").focus()
            page.keyboard.press("Enter")
            page.click("text=Open scan")
            expect(page.locator("#preparing")).to_be_visible()
            page.get_by_role("button", name="Cancel").first.click()
            expect(page.locator("#preparing")).to_be_hidden()
            expect(page.locator("#held > span")).to_have_count(1)
        finally:
            gate.set()


def test_two_browsers_each_have_their_own_scan(browser, url):
    with visit(browser, url) as left, visit(browser, url) as right:
        open_scan(left, 0)
        open_scan(right, 5)
        ask_all(left)
        ask_all(right)
        names = [page.locator("#view h3").inner_text() for page in (left, right)]
        assert names[0] != names[1]
        assert left.locator("#held > span").count() == right.locator("#held > span").count() == 1


def test_another_model_and_comparison(browser, url):
    with visit(browser, url) as page:
        open_scan(page)
        ask_all(page)
        page.select_option("#run", index=1)
        expect(page.locator("#held > span")).to_have_count(2, timeout=SETTLED)
        expect(page.locator("#held")).to_contain_text("second")
        ask_all(page)
        page.click("#pair button")
        expect(page.locator("#compared table").first).to_be_visible()
        picture(page, "compared")
        page.get_by_role("button", name="Forget").first.click()
        expect(page.locator("#held > span")).to_have_count(1)
        expect(page.locator("#compare")).to_be_hidden()


def test_the_exported_file_opens_without_the_server(browser, url, tmp_path):
    with visit(browser, url, accept_downloads=True) as page:
        open_scan(page)
        ask_all(page)
        with page.expect_download() as download:
            page.click("#export")
        path = tmp_path / "conversation.html"
        download.value.save_as(path)
    context = browser.new_context(offline=True)
    page = context.new_page()
    wrong = []
    page.on("console", lambda said: wrong.append(said.text))
    page.goto(path.as_uri())
    expect(page.locator(".turn")).to_have_count(2)
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
    assert wrong == []
    picture(page, "export")
    context.close()


def test_everything_is_reached_with_the_keyboard(browser, url):
    with visit(browser, url) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the conversation")).to_be_focused()
        page.locator("#list").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#view")).to_be_focused(timeout=SETTLED)
        page.get_by_role("button", name="All questions").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#turns .worth")).to_have_count(2, timeout=SETTLED)
        page.locator("#turns .link").first.focus()
        page.keyboard.press("Space")
        expect(page.locator("#turns .brain")).to_be_visible(timeout=60_000)


def test_the_token_is_taken_from_the_address_and_out_of_it(browser, place, pipeline):
    from fmrilm.web.guard import Door
    from fmrilm.web.worker import Worker

    token = "0123456789abcdef0123"
    studio = make_studio([pipeline], [place / "cohort"])
    with serving(studio, Worker(), Door(token=token, most_upload=2**22)) as address:
        with visit(browser, f"{address}/?token={token}", server=address) as page:
            assert page.url == f"{address}/"
            open_scan(page)
            expect(page.locator(".carpet img")).to_have_js_property("naturalWidth", 40)
            assert token not in page.evaluate("document.cookie")
        context = browser.new_context()
        assert context.new_page().goto(address).status == 401
        context.close()
