"""`fmrilm web` on the command line."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from fmrilm.cli import main
from fmrilm.errors import InputError
from fmrilm.web.web import HINT, listen, web


def start(place, *words):
    command = [sys.executable, "-m", "fmrilm", "web", str(place / "run"), "--no-browser", *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
        env={**os.environ, "TMPDIR": str(place)},
    )  # fmt: skip


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_stops_when_asked(place, stop):
    process = start(place, "--port", "0")
    try:
        address = process.stdout.readline().split()[2]
        about = httpx.get(f"{address}api/about", timeout=60).json()
        assert [run["name"] for run in about["runs"]] == ["run"]
        assert [cohort["scans"] for cohort in about["cohorts"]] == [50]  # what it was trained on
        assert list(place.glob("fmrilm-web-*"))
        process.send_signal(stop)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == {signal.SIGINT: 0, signal.SIGTERM: 143}[stop]
    assert "Traceback" not in errors
    assert not list(place.glob("fmrilm-web-*"))


def test_an_address_for_others_has_a_token(place):
    process = start(place, "--port", "0", "--host", "0.0.0.0")
    try:
        address = process.stdout.readline().split()[2]
        url = httpx.URL(address)
        local = f"http://127.0.0.1:{url.port}/api/about"
        assert len(url.params["token"]) >= 24
        assert httpx.get(local, timeout=60).status_code == 401
        headers = {"authorization": f"Bearer {url.params['token']}"}
        assert httpx.get(local, headers=headers, timeout=60).status_code == 200
    finally:
        process.kill()
        process.communicate()


def fails(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["web", *words])
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_what_cannot_be_served_is_one_sentence(place, capsys, tmp_path):
    run = str(place / "run")
    assert "not found" in fails(capsys, str(tmp_path))
    assert "answers no questions" in fails(capsys, str(place / "tok"))
    assert "16 characters" in fails(capsys, run, "--token", "short")
    assert "give 1 at least" in fails(capsys, run, "--max-upload-mb", "0")
    assert "cannot listen" in fails(capsys, run, "--host", "no.such.host.invalid")
    assert "0 to 65535" in fails(capsys, run, "--port", "99999999")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "give another --port" in fails(capsys, run, "--port", str(port))
        with pytest.raises(InputError):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("name", ["fastapi", "uvicorn", "python_multipart"])
def test_a_missing_package_is_one_sentence(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError) as error:
        web(["anything"])
    assert str(error.value) == HINT
    assert "pip install 'fmrilm[web]'" in HINT
