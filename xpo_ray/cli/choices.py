"""Words of a command line that must be one of a list. A fault names the word and the list."""

from collections.abc import Sequence
from typing import TypeVar, get_args

from xpo_ray.errors import UserError
from xpo_ray.run_states import Status
from xpo_ray.wire.keys import Scope

Word = TypeVar("Word", bound=str)


def statuses(given: Sequence[str]) -> list[Status]:
    """Statuses of runs. Raises UserError."""
    known: tuple[Status, ...] = get_args(Status)
    return [_one_of(known, each, "--status") for each in given]


def scopes(given: Sequence[str]) -> list[Scope]:
    """Scopes of a key. Raises UserError."""
    known: tuple[Scope, ...] = get_args(Scope)
    return [_one_of(known, each, "--scope") for each in given]


def _one_of(known: tuple[Word, ...], given: str, option: str) -> Word:
    for each in known:
        if each == given:
            return each
    raise UserError(f"{option} {given!r}: expected one of {', '.join(known)}")
