"""How often a caller may ask, by key and by address; how large a page may be."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from tests.api.conftest import Headers, MakeKey
from xpo_ray.api.app import create_app
from xpo_ray.api.rates import FEWEST_PER_ADDRESS
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Limits
from xpo_ray.wire.keys import Quotas

PER_KEY = 20


@pytest.fixture
def narrow(services: Services, admin: Headers) -> Iterator[TestClient]:
    """The app with room for 20 calls a minute."""
    assert admin
    limits = Limits(requests_per_minute=PER_KEY, page_items=5)
    services.settings = services.settings.model_copy(update={"limits": limits})
    with TestClient(create_app(services.settings, services=services, background=False), "http://127.0.0.1") as client:
        yield client


def asked(client: TestClient, times: int, headers: Headers) -> list[Response]:
    return [client.get("/v1/keys/self", headers=headers) for _ in range(times)]


def test_the_call_over_the_limit_is_refused_and_says_when_to_come_back(narrow: TestClient, reader: Headers) -> None:
    *within, over = asked(narrow, PER_KEY + 1, reader)
    assert {answer.status_code for answer in within} == {200}
    assert over.status_code == 429
    assert over.json()["code"] == "rate_limited"
    assert over.headers["content-type"] == "application/problem+json"
    assert 60 <= int(over.headers["retry-after"]) <= 63, "the twentieth part of a minute after the minute of the calls"


def test_every_counted_answer_says_what_is_left(narrow: TestClient, reader: Headers) -> None:
    first, second = asked(narrow, 2, reader)
    assert first.headers["ratelimit-policy"] == f'"key";q={PER_KEY};w=60'
    assert first.headers["ratelimit"].startswith(f'"key";r={PER_KEY - 1};t=')
    assert second.headers["ratelimit"].startswith(f'"key";r={PER_KEY - 2};t=')


def test_keys_are_counted_apart_and_a_quota_stands_instead_of_the_limit(
    narrow: TestClient, reader: Headers, make_headers: MakeKey
) -> None:
    few = make_headers("read", quotas=Quotas(requests_per_minute=2))
    assert [answer.status_code for answer in asked(narrow, 3, few)] == [200, 200, 429]
    assert asked(narrow, 1, reader)[0].status_code == 200


def test_wrong_keys_and_logins_are_counted_by_address(narrow: TestClient, reader: Headers) -> None:
    wrong = {"Authorization": "Bearer xpo_wrong_00000000"}
    assert {answer.status_code for answer in asked(narrow, FEWEST_PER_ADDRESS, wrong)} == {401}
    assert asked(narrow, 1, wrong)[0].status_code == 429
    assert asked(narrow, 1, {})[0].status_code == 429
    assert narrow.post("/v1/session", json={"key": "xpo_wrong_00000000"}).status_code == 429
    assert asked(narrow, 1, reader)[0].status_code == 200, "who has a key is not held up by who has none"


def test_probes_are_not_counted(narrow: TestClient) -> None:
    answers = [narrow.get("/livez") for _ in range(FEWEST_PER_ADDRESS + 5)]
    assert {answer.status_code for answer in answers} == {200}


def test_a_page_larger_than_the_service_gives_is_refused(narrow: TestClient, admin: Headers) -> None:
    assert narrow.get("/v1/keys?limit=5", headers=admin).status_code == 200
    answer = narrow.get("/v1/keys?limit=6", headers=admin)
    assert (answer.status_code, answer.json()["field"]) == (422, "limit")
    assert "at most 5" in answer.json()["detail"]
