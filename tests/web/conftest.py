"""A server on the run of tests/asking, for all tests of this folder."""

import pytest

pytest.importorskip("fastapi", reason="needs fmrilm[web]")
pytest.importorskip("httpx", reason="needs httpx")

from serving import connect, make_studio, serving


@pytest.fixture(scope="session")
def pipeline(place):
    from fmrilm.asking.pipeline import FMRIPipeline

    return FMRIPipeline(place / "run")


@pytest.fixture(scope="session")
def studio(place, pipeline):
    return make_studio([pipeline], [place / "cohort"])


@pytest.fixture(scope="session")
def address(studio):
    from fmrilm.web.guard import Door
    from fmrilm.web.worker import Worker

    with serving(studio, Worker(), Door(most_upload=studio.uploads.most)) as url:
        yield url


@pytest.fixture
def client(address):
    with connect(address) as session:
        yield session
