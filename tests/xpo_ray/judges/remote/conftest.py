"""Judges that are closed after the test, and an endpoint of their own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.xpo_ray.judges.remote.endpoint import Endpoint, serving
from xpo_ray.judges import Judge, open_judge
from xpo_ray.judges.remote import caller
from xpo_ray.spec import HttpJudge, LlmJudge

Asking = Callable[..., Judge]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries: what is tested is how many there are, and pauses have tests of their own."""
    monkeypatch.setattr(caller, "pause_s", lambda tries, _: 0.01 * tries)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as made:
        yield made


@pytest.fixture
def asking(endpoint: Endpoint, tmp_path: Path) -> Iterator[Asking]:
    """asking("http", batch_size=1): a judge of that kind at the endpoint, quick to try again."""
    opened: list[Judge] = []

    def made(kind: str, **settings: Any) -> Judge:
        quick = {"url": endpoint.url, "retries": 1, "timeout_s": 5.0, "cool_down_s": 0.2, "patience_s": 1.0}
        of = HttpJudge if kind == "http" else LlmJudge
        opened.append(open_judge(of.model_validate({"kind": kind, **quick, **settings}), tmp_path))
        return opened[-1]

    yield made
    for judge in opened:
        judge.close()
