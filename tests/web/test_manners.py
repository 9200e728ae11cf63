"""What the server takes, from whom, and that nothing of it stays."""

import gzip
import io
import socket
import struct
import threading
import time
import zlib

import httpx
import numpy as np
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

from asking_helpers import image
from fmrilm.errors import InputError
from fmrilm.web.content import check, unpack
from fmrilm.web.guard import Door
from fmrilm.web.uploads import AT_ONCE
from fmrilm.web.worker import Job, Worker

TOKEN = "0123456789abcdef0123"


def fails(client, *paths, **options):
    """The sentence with which an upload ends that is no scan."""
    answer = upload(client, *paths, **options)
    if answer.status_code != 202:
        return answer.json()["detail"]
    last = events_of(client, answer)[-1]
    assert last["type"] == "failed", last
    return last["detail"]


# Uploads -----------------------------------------------------------------------------------------


def test_nothing_of_an_upload_stays_on_disk(client, studio, tmp_path, capfd):
    secret = "JOHN_DOE_1970"
    path = write_series(tmp_path / "a.npy")
    assert events_of(client, upload(client, path, names=[f"{secret}.npy"]))[-1]["type"] == "done"
    path.write_bytes(b"\x93NUMPYgarbage")
    said = fails(client, path, names=[f"{secret}.npy"])
    assert list(studio.uploads.folder.iterdir()) == []
    assert secret not in said
    assert str(studio.uploads.folder) not in said
    assert "sub-upload" not in said
    told = capfd.readouterr()
    assert secret not in told.out + told.err


@pytest.mark.parametrize("name", [
    "../../../../tmp/evil.npy", "..\\..\\evil.npy", "/etc/cron.d/evil.npy", "a/../../b.npy",
    "<script>alert(1)</script>.npy", "evil\x00.npy", "%2e%2e%2fevil.npy", "con.npy", "💀.npy",
])  # fmt: skip
def test_the_name_of_a_file_leads_nowhere(client, studio, tmp_path, name):
    before = set(studio.uploads.folder.parent.iterdir())
    answer = upload(client, write_series(tmp_path / "a.npy"), names=[name])
    last = events_of(client, answer)[-1]
    assert last["type"] == "done", last
    assert last["scan"]["scan"] == "uploaded scan"
    assert "script>" not in str(last)
    assert list(studio.uploads.folder.iterdir()) == []
    assert not {p for p in set(studio.uploads.folder.parent.iterdir()) - before if "evil" in p.name}


@pytest.mark.parametrize(("name", "content", "said"), [
    ("a.nii.gz", b"no gzip at all", "no gzip file"),
    ("a.nii.gz", gzip.compress(b"x" * 4000, mtime=0), "no NIfTI"),
    ("a.nii", b"\x5c\x01\0\0" + bytes(400), "no NIfTI"),
    ("a.nii", b"", "no NIfTI"),
    ("a.npy", b"hello", "no NPY"),
    ("a.mat", b"hello", "no MAT"),
    ("a.csv", b"\x00\x01\x02", "no table"),
    ("a.exe", b"MZ", "unknown kind of file"),
    ("a", b"MZ", "unknown kind of file"),
    ("a.h5", b"\x89HDF\r\n\x1a\n", "unknown kind of file"),
    ("a.csv", b"<html><script>alert(1)</script>", ""),
    ("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'shape': (1,), }", ""),
])  # fmt: skip
def test_what_is_no_scan_is_refused_in_a_sentence(client, tmp_path, name, content, said):
    (tmp_path / "file").write_bytes(content)
    detail = fails(client, tmp_path / "file", names=[name])
    assert said in detail
    assert "fault of fmrilm" not in detail


def test_a_file_that_unpacks_to_much_is_refused(studio, client, tmp_path):
    most = studio.uploads.most
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb", compresslevel=9) as sink:
        for _ in range(5):
            sink.write(bytes(most))
    assert len(bomb.getvalue()) < most / 100
    (tmp_path / "bomb").write_bytes(bomb.getvalue())
    assert "unpacks to more" in fails(client, tmp_path / "bomb", names=["a.nii.gz"])


def test_joined_gzip_members_are_counted_together(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(1000)) * 50)
    with pytest.raises(InputError, match="unpacks to more"):
        unpack(tmp_path / "a.nii.gz", 40_000)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(b"ab") + gzip.compress(b"cd"))
    assert unpack(tmp_path / "b.nii.gz", 100).read_bytes() == b"abcd"


def test_a_mat_file_that_unpacks_to_much_is_refused(tmp_path):
    body = zlib.compress(bytes(10_000_000), 9)
    head = b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    (tmp_path / "a.mat").write_bytes(head + struct.pack("<2I", 15, len(body)) + body)
    with pytest.raises(InputError, match="unpacks to more"):
        check(tmp_path / "a.mat", 1_000_000)


def test_an_hdf5_that_promises_much_is_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("x", shape=(100_000, 100_000), dtype="f8", chunks=(100, 100))
    assert (tmp_path / "a.mat").stat().st_size < 100_000
    with pytest.raises(InputError, match="unpacks to more"):
        check(tmp_path / "a.mat", 1_000_000)


def test_an_image_that_promises_more_than_it_holds_is_refused(tmp_path):
    header = bytearray(352)
    header[0:4] = struct.pack("<i", 348)
    header[40:56] = struct.pack("<8h", 4, 30000, 30000, 30000, 30000, 1, 1, 1)
    header[70:74] = struct.pack("<2h", 64, 64)
    header[108:112] = struct.pack("<f", 352)
    header[344:348] = b"n+1\0"
    (tmp_path / "a.nii").write_bytes(header)
    with pytest.raises(InputError, match="shorter than its header"):
        check(tmp_path / "a.nii", 2**40)


def test_a_real_image_passes(place, tmp_path):
    import shutil

    copy = shutil.copy(image(place, "sub-03"), tmp_path / "a.nii.gz")
    check(unpack(tmp_path / "a.nii.gz", 2**30), 2**30)
    assert copy


def upload_of(client, length):
    """The first line of the answer to an upload that says how long it will be and sends nothing."""
    with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
        line.sendall(
            b"POST /api/scans HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % length
        )
        return line.recv(100)


def test_too_large_is_said_before_and_while_it_comes(client, studio):
    most = studio.uploads.most
    assert upload_of(client, most + 1).startswith(b"HTTP/1.1 413")

    def endless():
        yield b'--b\r\nContent-Disposition: form-data; name="scan"; filename="a.npy"\r\n\r\n'
        for _ in range(2 * most // 2**20):
            yield bytes(2**20)

    kind = {"content-type": "multipart/form-data; boundary=b"}
    try:
        streamed = client.post("/api/scans", content=endless(), headers=kind)
        assert streamed.status_code == 413
    except httpx.WriteError:  # the server closed while we were still sending
        pass
    assert list(studio.uploads.folder.iterdir()) == []


def test_too_many_uploads_at_once_are_said_with_when_to_come_back(client, studio, tmp_path):
    others = {tmp_path / str(number) for number in range(AT_ONCE)}
    studio.uploads._held |= others
    try:
        answer = upload(client, write_series(tmp_path / "a.npy"))
    finally:
        studio.uploads._held -= others
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


def test_a_sender_that_goes_away_leaves_nothing(client, studio, capfd):
    with socket.create_connection((client.base_url.host, client.base_url.port)) as line:
        line.sendall(
            b"POST /api/scans HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n"
            b"content-type: multipart/form-data; boundary=b\r\n\r\n"
            b'--b\r\nContent-Disposition: form-data; name="scan"; filename="a.npy"\r\n\r\nabc'
        )
        deadline = time.monotonic() + 10
        while not list(studio.uploads.folder.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert list(studio.uploads.folder.iterdir())
    while list(studio.uploads.folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(studio.uploads.folder.iterdir()) == []
    assert "Traceback" not in capfd.readouterr().err


def test_only_uploads_may_be_long(client):
    assert client.post("/api/scans/choose", content=b"{" * 100_000).status_code == 413

    def pieces():
        for _ in range(20):
            yield b" " * 10_000

    assert client.post("/api/scans/choose", content=pieces()).status_code == 413


@pytest.mark.parametrize(("body", "kind", "status"), [
    (b"", "text/plain", 415),
    (b"", "multipart/form-data", 415),
    (b"garbage", "multipart/form-data; boundary=b", 400),
    (b"--b\r\n\r\n\r\n--b--\r\n", "multipart/form-data; boundary=b", 415),
    (b"--b--\r\n", "multipart/form-data; boundary=b", 415),
    (b'--b\r\nContent-Disposition: form-data; filename="a.npy"\r\n\r\nabc',
     "multipart/form-data; boundary=b", 400),
    (b"--b\r\nX-Y: " + b"x" * 9000 + b"\r\n\r\n", "multipart/form-data; boundary=b", 400),
])  # fmt: skip
def test_an_upload_that_is_none(client, studio, body, kind, status):
    answer = client.post("/api/scans", content=body, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert list(studio.uploads.folder.iterdir()) == []


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


def test_series_of_another_atlas_or_too_short_are_one_sentence(client, tmp_path):
    assert "24 regions" in fails(client, write_series(tmp_path / "a.npy", rois=10))
    assert "too short" in fails(client, write_series(tmp_path / "a.npy", points=12))
    np.save(tmp_path / "b.npy", np.full((24, 60), np.nan, np.float32))
    assert "nothing was measured" in fails(client, tmp_path / "b.npy")
