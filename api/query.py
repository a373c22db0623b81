"""Query parameters that a route does not know are refused: a misspelt filter must not give the list of everything."""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel

from xpo_ray.api.problems import Refusal


async def known_query(request: Request) -> None:
    """A dependency of every route below /v1. Raises Refusal for a parameter that the route does not declare."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if dependant is None or not request.query_params:
        return
    known = set(_names(dependant))
    for name in request.query_params:
        if name not in known:
            remedy = f"known are {', '.join(sorted(known))}" if known else "this route takes none"
            raise Refusal(422, "query_unknown", f"unknown query parameter {name!r:.80}; {remedy}", field=name[:80])


def _names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        model = field.field_info.annotation
        whole = isinstance(model, type) and issubclass(model, BaseModel)  # a route that takes all of them as one model
        yield from (model.model_fields if whole and model is not None else [str(field.alias)])
    for each in dependant.dependencies:
        yield from _names(each)
