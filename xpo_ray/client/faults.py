"""What goes wrong between a client and the service. A problem document becomes the message; nothing here does I/O."""

import json

from pydantic import ValidationError

from xpo_ray.errors import UserError, XpoRayError
from xpo_ray.wire.problems import Problem


class ApiError(XpoRayError):
    """The service refused or failed; `problem` is what it said."""

    problem: Problem

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def code(self) -> str:
        return self.problem.code

    @property
    def detail(self) -> str:
        return self.problem.detail

    @property
    def field(self) -> str | None:
        return self.problem.field

    @property
    def request_id(self) -> str:
        return self.problem.request_id


class Refused(ApiError, UserError):
    """4xx: the request must change."""


class ServiceUnreachable(XpoRayError):
    """No answer came, after all tries."""


class DownloadDamaged(XpoRayError):
    """What was downloaded is not what was announced."""


def fault_of(status: int, body: bytes, request_id: str) -> ApiError:
    """The error of an answer from 400 up; what stands in front of the service may have answered without a document."""
    try:
        problem = Problem.model_validate(json.loads(body))
    except (ValueError, ValidationError):
        text = body.decode(errors="replace")[:200]
        problem = Problem(
            title=f"HTTP {status}", status=status, detail=text, code="no_problem_document", request_id=request_id
        )
    error = (Refused if 400 <= problem.status < 500 else ApiError)(_message(problem))
    error.problem = problem
    return error


def _message(problem: Problem) -> str:
    lines = _said(problem)
    remedy = REMEDIES.get(problem.status)
    lines += [remedy] if remedy else []
    return "\n".join([*lines, f"({problem.status} {problem.code}, request {problem.request_id})"])


def _said(problem: Problem) -> list[str]:
    """Each fault once, with its field: one for each line where there are several."""
    faults = [f"{f.get('field') or 'the body'}: {f.get('detail') or ''}" for f in problem.errors]
    if faults:
        return faults if len(faults) == 1 else [problem.title, *(f"  {fault}" for fault in faults)]
    named = not problem.field or problem.detail.startswith(problem.field)
    return [problem.detail if named else f"{problem.field}: {problem.detail}"]


REMEDIES = {
    401: "Log in with `xpo-ray login URL`, or set XPO_RAY_KEY to a key that is valid.",
    403: "Ask an admin for a key with the scope that this needs.",
    412: "It was changed meanwhile: look at it and try again.",
    429: "Too many requests: wait, then try again.",
    507: "The service's disk is full: ask its operator.",
}
