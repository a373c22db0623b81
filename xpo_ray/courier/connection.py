"""One attempt's calls of the service. A call is answered, refused, or the service is away; nothing else comes out of here."""

import random
import threading
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from xpo_ray.errors import ServiceRefused
from xpo_ray.wire.problems import Problem

AnswerT = TypeVar("AnswerT", bound=BaseModel)
TIMEOUT_S = 20.0
RETRIED = frozenset({408, 425, 429})
MOST_S = 15.0
"""Between two tries."""


class Away(Exception):
    """The service does not answer, or says that it cannot now."""


class Refused(ServiceRefused):
    """The service has answered with a problem; the code says which."""

    code = "unknown"


class Connection:
    """Calls below /v1/driver/runs/<id>/attempts/<n>/. Used by several threads."""

    def __init__(self, api: str, run_id: str, attempt: int) -> None:
        self._base = f"{api.rstrip('/')}/v1/driver/runs/{run_id}/attempts/{attempt}/"
        self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=False)
        self.token: str | None = None

    def call(self, verb: str, body: BaseModel, answer: type[AnswerT], *, wait_s: float = 0.0) -> AnswerT:
        """One try. Raises Away or Refused."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            got = self._client.post(
                self._base + verb, json=body.model_dump(mode="json"), headers=headers, timeout=TIMEOUT_S + wait_s
            )
        except httpx.TransportError as error:
            raise Away(f"{type(error).__name__}: {error}") from error
        if got.status_code >= 500 or got.status_code in RETRIED:
            raise Away(f"HTTP {got.status_code}")
        if got.status_code >= 400:
            raise _refusal(got)
        return answer.model_validate_json(got.content)

    def close(self) -> None:
        self._client.close()


class Patience:
    """Waits between tries: 0.2 s, then longer, up to `most_s`, with some chance: drivers shall not come all at once."""

    def __init__(self, most_s: float = MOST_S) -> None:
        self._most_s = most_s
        self._next_s = 0.2

    def wait(self, ending: threading.Event) -> None:
        """Wait, or return at once when the end has come."""
        ending.wait(self._next_s * random.uniform(0.7, 1.3))
        self._next_s = min(2 * self._next_s, self._most_s)

    def reset(self) -> None:
        self._next_s = 0.2


def _refusal(got: httpx.Response) -> Refused:
    try:
        problem = Problem.model_validate_json(got.content)
    except ValidationError:
        return Refused(f"HTTP {got.status_code}")
    refusal = Refused(f"{problem.code}: {problem.detail}")
    refusal.code = problem.code
    return refusal
