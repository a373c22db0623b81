"""What a driver and the API say to each other. A driver does nothing before its claim was granted (DESIGN §7)."""

from typing import Any

from pydantic import Field

from xpo_ray.run_states import Ending, Wanted
from xpo_ray.wire.base import Answer, AttemptNumber, Question
from xpo_ray.wire.runs import RunError


class Claim(Question):
    """The first word of a driver."""

    ticket: str
    """From the file that the API left for this attempt in the run's folder, readable by the service's user alone."""
    nonce: str = Field(min_length=16, max_length=128)
    """Made by the driver: a claim that is sent again is the same claim."""
    versions: dict[str, str]
    """Of xpo-ray and of what computes; another version of xpo-ray than the API's is refused."""


class Granted(Answer):
    """The attempt is this driver's."""

    token: str
    """For every further call; good for this run and attempt alone."""
    spec: dict[str, Any]
    secrets: dict[str, str]
    """Environment variables for the run's processes."""
    wanted: Wanted
    heartbeat_s: float
    shipped: dict[int, int]
    """By attempt: journal records that the API has."""
    disk_reserve_mib: float = 0.0
    """What runs leave free on the disk, so that the service can still write and make room."""


class Heartbeat(Question):
    """The driver lives. `wait_s`: answer later, when what is wanted changes, at most so long."""

    known: Wanted = "run"
    wait_s: float = Field(0.0, ge=0.0, le=30.0)


class Orders(Answer):
    """What the driver shall do."""

    wanted: Wanted


class JournalBatch(Question):
    """Records of a journal, in order and without a gap; sending them again changes nothing."""

    attempt: AttemptNumber
    """Whose journal: the sender's, or an earlier one that was not sent to its end."""
    first: int = Field(ge=1, le=2**53)
    """`seq` of the first record."""
    records: list[dict[str, Any]] = Field(max_length=500)


class Received(Answer):
    """Records of that journal that the API has now."""

    shipped: int


class AttemptEnd(Question):
    """The last word of a driver."""

    ending: Ending
    error: RunError | None = None
    result: dict[str, Any] | None = None
    """Of a run that succeeded: selected iteration, tier, and the result's folder below the run's."""
