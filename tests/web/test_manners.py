"""Whom the server answers, and how its jobs end."""

import threading
import time

import httpx
import pytest
from serving import (
    ask,
    choose,
    connect,
    events_of,
    make_studio,
    serving,
    upload,
    write_series,
)

from fmrilm.web.guard import Door
from fmrilm.web.worker import Job, Worker

TOKEN = "0123456789abcdef0123"


# Who asks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("headers", "status"), [
    ({"host": "evil.example"}, 421),
    ({"host": "127.0.0.1.evil.example"}, 421),
    ({"host": "[::1"}, 421),
    ({"host": "localhost:1234"}, 200),
    ({"origin": "https://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "http://["}, 403),
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"host": "localhost:9", "origin": "http://localhost:9"}, 200),
    ({"host": "localhost:9", "origin": "http://localhost:10"}, 403),
])  # fmt: skip
def test_other_hosts_and_origins_are_refused(client, headers, status):
    assert client.get("/api/about", headers=headers).status_code == status


def test_every_answer_has_the_headers(client):
    for answer in (
        client.get("/"),
        client.get("/api/about"),
        client.get("/nothing"),
        client.get("/", headers={"host": "evil.example"}),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers or "uvicorn" not in answer.headers["server"]


def test_there_is_no_page_of_documentation_from_elsewhere(client):
    assert client.get("/docs").status_code == 404
    assert client.get("/redoc").status_code == 404
    assert client.get("/openapi.json").json()["info"]["title"] == "fmrilm web"


@pytest.mark.parametrize("path", [
    "/assets/../server.py", "/assets/..%2fserver.py", "/assets/%2e%2e/server.py",
    "/assets//etc/passwd", "/assets/....//server.py",
])  # fmt: skip
def test_assets_are_the_page_and_nothing_else(client, path):
    assert client.get(path).status_code == 404


@pytest.fixture(scope="module")
def guarded(pipeline, place):
    studio = make_studio([pipeline], [place / "cohort"])
    with serving(studio, Worker(), Door(token=TOKEN, most_upload=2**20)) as url:
        yield url


def test_the_token_is_asked_for_everywhere(guarded):
    with connect(guarded) as client:
        for path in ("/", "/api/about", "/assets/page.css", "/openapi.json", "/nothing"):
            assert client.get(path).status_code == 401
            for wrong in ("x", TOKEN[:-1], TOKEN + "0", "ü" * 20):
                headers = {"authorization": f"Bearer {wrong}".encode()}
                assert client.get(path, headers=headers).status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        assert client.get(f"/api/about?token={TOKEN}").status_code == 401
    with connect(guarded, authorization=f"Bearer {TOKEN}") as client:
        assert client.get("/api/about").status_code == 200


def test_the_address_with_the_token_sets_a_cookie_and_leaves_the_address_bar(guarded):
    with connect(guarded) as client:
        opened = client.get(f"/?token={TOKEN}")
        assert opened.status_code == 303
        assert opened.headers["location"] == "/"
        cookie = opened.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert client.get("/api/about").status_code == 200


def test_a_server_for_others_knows_its_addresses_and_no_other_name():
    door = Door(host="0.0.0.0", token=TOKEN)
    assert door.knows_host("192.168.1.5:8642")
    assert door.knows_host("localhost:8642")
    assert not door.knows_host("evil.example:8642")
    assert not Door().knows_host("192.168.1.5:8642")


# Jobs --------------------------------------------------------------------------------------------


def test_a_full_queue_is_said_with_when_to_come_back(pipeline, place):
    gate = threading.Event()
    worker, studio = Worker(size=2), make_studio([pipeline], [place / "cohort"])
    with serving(studio, worker, Door(most_upload=2**20)) as url, connect(url) as client:
        scan = choose(client, 0)["id"]
        worker.submit(Job("blocker", lambda job: {"waited_for": gate.wait(30)}))
        while worker._waiting:
            gate.wait(0.01)
        asked = [
            client.post(f"/api/scans/{scan}/questions", json={"question": "sex"}) for _ in range(4)
        ]
        assert [answer.status_code for answer in asked] == [202, 202, 503, 503]
        assert int(asked[-1].headers["retry-after"]) > 0
        gate.set()
        assert events_of(client, asked[0])[-1]["type"] == "done"


def test_jobs_are_cancelled_where_they_wait_and_where_they_run(pipeline, place):
    gate = threading.Event()
    worker, studio = Worker(), make_studio([pipeline], [place / "cohort"])
    with serving(studio, worker, Door(most_upload=2**20)) as url, connect(url) as client:
        scan = choose(client, 0)["id"]

        def endless(job):
            while True:
                job.check()
                gate.wait(0.01)

        running = worker.submit(Job("endless", endless))
        waiting = client.post(f"/api/scans/{scan}/questions", json={}).json()["id"]
        assert client.delete(f"/api/jobs/{waiting}").status_code == 204
        assert client.get(f"/api/jobs/{waiting}").json()["state"] == "cancelled"
        with client.stream("GET", f"/api/jobs/{running.id}/events") as stream:
            lines = stream.iter_lines()
            next(lines)
            client.delete(f"/api/jobs/{running.id}")
            assert '"cancelled"' in list(lines)[-1]
        assert ask(client, scan, "sex")
        assert client.delete("/api/jobs/nothing").status_code == 404


def test_a_listener_that_goes_away_cancels_its_job(pipeline, place):
    worker, studio = Worker(), make_studio([pipeline], [place / "cohort"])
    with serving(studio, worker, Door(most_upload=2**20)) as url, connect(url) as client:

        def talking(job):
            while True:
                job.progress(0.5, "still here")
                time.sleep(0.01)

        job = worker.submit(Job("talking", talking))
        with client.stream("GET", f"/api/jobs/{job.id}/events") as stream:
            next(stream.iter_lines())
        deadline = time.monotonic() + 10
        while not job.has_ended and time.monotonic() < deadline:
            time.sleep(0.02)
        assert job.state == "cancelled"


def test_an_attribution_is_cancelled_between_its_steps(pipeline, place):
    from fmrilm.web.origins import find_origin
    from fmrilm.web.worker import CancelledError

    ready = next(pipeline.scans(f"{place}/cohort:sub-03"))
    job = Job("origin", lambda job: {})
    seen = []

    def publish(kind, **content):
        seen.append(content["share"])
        if len(seen) == 4:
            job.request_cancel()

    job.publish = publish
    with pytest.raises(CancelledError):
        find_origin(job, pipeline, ready, "sex", "Female")
    assert len(seen) == 4


def test_a_fault_is_told_without_what_it_was_about(capfd):
    def broken(job):
        raise RuntimeError("inside")

    job = Job("broken", broken)
    job.run()
    assert job.state == "failed"
    assert "inside" not in str(job.events)
    assert "inside" in capfd.readouterr().err


def test_two_clients_do_not_see_each_other(address, tmp_path):
    with connect(address) as first, connect(address) as second:
        mine = events_of(first, upload(first, write_series(tmp_path / "a.npy", 1)))[-1]["scan"]
        theirs = events_of(second, upload(second, write_series(tmp_path / "a.npy", 2)))[-1]["scan"]
        assert mine["id"] != theirs["id"]
        here = ask(first, mine["id"], "sex")[0]["probabilities"]
        there = ask(second, theirs["id"], "sex")[0]["probabilities"]
        assert here != there
        assert ask(first, mine["id"], "sex")[0]["probabilities"] == here
        assert first.delete(f"/api/scans/{mine['id']}").status_code == 204
        assert first.get(f"/api/scans/{mine['id']}").status_code == 404
        assert second.get(f"/api/scans/{theirs['id']}").status_code == 200


def test_scans_are_forgotten_when_there_are_many_or_they_are_old(pipeline, place):
    from fmrilm.web.shelf import HeldScan, Shelf

    ready = next(pipeline.scans(f"{place}/cohort:sub-03"))
    shelf = Shelf(most=2)
    held = [shelf.put(HeldScan(0, ready, {}, b"")) for _ in range(3)]
    assert [shelf.get(h.id) is not None for h in held] == [False, True, True]
    shelf.seconds = 0.0
    assert shelf.get(held[2].id) is None


def test_when_the_server_stops_its_folder_is_gone(pipeline, place):
    studio = make_studio([pipeline], [])
    with serving(studio, Worker(), Door()) as url:
        assert studio.uploads.folder.is_dir()
        httpx.get(f"{url}/api/about")
    assert not studio.uploads.folder.exists()
    assert len(studio.shelf) == 0
