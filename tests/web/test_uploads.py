"""What is sent to the page is looked at before it is read, and nothing of it stays."""

import gzip
import io
import socket
import struct
import time
import zlib

import httpx
import numpy as np
import pytest
from serving import (
    events_of,
    upload,
    write_series,
)

from asking_helpers import image
from fmrilm.errors import InputError
from fmrilm.web.content import check, unpack
from fmrilm.web.uploads import AT_ONCE


def fails(client, *paths, **options):
    """The sentence with which an upload ends that is no scan."""
    answer = upload(client, *paths, **options)
    if answer.status_code != 202:
        return answer.json()["detail"]
    last = events_of(client, answer)[-1]
    assert last["type"] == "failed", last
    return last["detail"]


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
    assert "script" not in str(last).replace("description", "")
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


def test_series_of_another_atlas_or_too_short_are_one_sentence(client, tmp_path):
    assert "24 regions" in fails(client, write_series(tmp_path / "a.npy", rois=10))
    assert "too short" in fails(client, write_series(tmp_path / "a.npy", points=12))
    np.save(tmp_path / "b.npy", np.full((24, 60), np.nan, np.float32))
    assert "nothing was measured" in fails(client, tmp_path / "b.npy")
