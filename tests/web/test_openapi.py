"""Whatever is sent, allowed by the OpenAPI document or not, is never a fault of the server."""

import pytest
from serving import choose, connect, make_studio, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own_address(pipeline, place):
    """A server that has one scan, and whose jobs are cancelled as soon as they are there."""
    from fmrilm.web.guard import Door
    from fmrilm.web.worker import Worker

    studio = make_studio([pipeline], [place / "cohort"], most=2**20)
    with serving(studio, Worker(), Door(most_upload=studio.uploads.most)) as url:
        yield url


@pytest.mark.timeout(600)
def test_no_request_is_a_fault(own_address):
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error

    with connect(own_address) as client:
        scan = choose(client, 0)["id"]
        schema = schemathesis.openapi.from_url(f"{own_address}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) >= 13
        seen = []

        for operation in operations:
            kinds = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]

            @given(case=st.one_of(kinds), is_there=st.booleans())
            @settings(
                max_examples=40,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            def check(case, is_there):
                if is_there and "scan" in (case.path_parameters or {}):
                    if case.method == "DELETE":
                        return
                    case.path_parameters["scan"] = scan
                answer = case.call(base_url=own_address, timeout=30)
                seen.append(answer.status_code)
                if answer.status_code == 202:
                    client.delete(f"/api/jobs/{answer.json()['id']}")
                if answer.status_code == 503 and "retry-after" in answer.headers:
                    return  # full, and said so
                case.validate_response(answer, checks=[not_a_server_error])

            check()
    assert {200, 202, 404, 422} <= set(seen)
    assert 500 not in seen
