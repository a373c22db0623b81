"""Pages of lists: a limit with a bound, and the cursor of the page behind."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request

from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import TheServices
from xpo_ray.wire.base import Page

Item = TypeVar("Item")
Limit = Annotated[int, Query(ge=1, le=200)]
After = Annotated[str | None, Query(max_length=500)]


async def bounded(request: Request, services: TheServices) -> None:
    """A dependency of every route below /v1. Raises Refusal where more items are asked for than the settings give a page."""
    model = getattr(request.scope.get("route"), "response_model", None)
    asked, most = request.query_params.get("limit", ""), services.settings.limits.page_items
    if isinstance(model, type) and issubclass(model, Page) and asked.isdecimal() and int(asked[:9]) > most:
        raise Refusal(422, "limit_too_large", f"limit: at most {most} items a page, got {asked:.20}", field="limit")


def page_of(items: Sequence[Item], limit: int, cursor: Callable[[Item], str]) -> Page[Item]:
    """A page of at most `limit` items, from a list that was read with one more."""
    shown = list(items[:limit])
    return Page(items=shown, next=cursor(shown[-1]) if len(items) > limit else None)


def pack(*values: Any) -> str:
    """A cursor: where a list goes on. Opaque to callers, checked when it comes back."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def unpack(cursor: str, *kinds: type) -> list[Any]:
    """The values in a cursor. Raises Refusal for one that `pack` did not make."""
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, UnicodeDecodeError):
        values = None
    if not isinstance(values, list) or [type(v) for v in values] != list(kinds):
        raise _no_cursor()
    return values


def behind(cursor: str) -> tuple[datetime, str]:
    """Time and id of the last item on a page of a list by age, packed as `pack(time.isoformat(), id)`. Raises Refusal."""
    at, last = unpack(cursor, str, str)
    try:
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC), str(last)
    except (ValueError, OverflowError):
        pass
    raise _no_cursor()


def _no_cursor() -> Refusal:
    return Refusal(422, "cursor_invalid", "after: not a cursor of this list; use the `next` of a page", field="after")
