"""What is wrong with a spec, in the user's words: one line per fault, with the key, the value that was got, and the remedy.

The loader calls `explain` on pydantic's errors; the tags that unions put into a location never show.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

MAPPING_EXPECTED = ("model_type", "model_attributes_type", "dict_type", "dataclass_type")
ONLY_VALUE = ("tuple_type", "list_type")


@dataclass(frozen=True)
class Place:
    """Where an error lies: the keys as the user wrote them, the field's declaration, and what is declared below it."""

    keys: tuple[str, ...]
    field: FieldInfo | None
    kind: Any

    @property
    def dotted(self) -> str:
        return ".".join(self.keys)

    def models(self) -> list[type[BaseModel]]:
        """The spec classes that may stand here."""
        return _models(self.kind)


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """One line for each fault."""
    faults = [(place_of(tuple(e["loc"]), root), dict(e)) for e in error.errors(include_url=False)]
    return [_line(place, e, root) for place, e in faults if not _echo(place, e, faults)]


def place_of(location: tuple[Any, ...], root: type[BaseModel]) -> Place:
    """Walk an error's location from the root."""
    place = Place((), None, root)
    for item in location:
        place = _step(place, item)
    return place


def misread_booleans(raw: Any, value: Any, keys: tuple[str, ...] = ()) -> Iterator[str]:
    """yes, no, true and false where a number is wanted: pydantic would read them as 1 and 0."""
    if isinstance(raw, dict) and isinstance(value, BaseModel):
        for key, child in raw.items():
            yield from misread_booleans(child, getattr(value, key), (*keys, str(key)))
    elif isinstance(raw, list) and isinstance(value, tuple):
        for i, (child, read) in enumerate(zip(raw, value, strict=True)):
            yield from misread_booleans(child, read, (*keys, str(i)))
    elif isinstance(raw, bool) and not isinstance(value, bool):
        yield f"{'.'.join(keys)}: should be a number; got {str(raw).lower()}"


def _line(place: Place, error: dict[str, Any], root: type[BaseModel]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    message = message.replace("Tuple should", "should").replace(" after validation", "")
    match error["type"]:
        case "extra_forbidden":
            return f"{place.dotted}: unknown key; {_known_key(place, str(error['loc'][-1]), error['loc'], root)}"
        case "missing":
            return f"{place.dotted}: missing{_meaning(place.field)}"
        case "value_error" if not place.keys:
            return message
        case "union_tag_invalid":
            tag = str(error["ctx"]["tag"])
            return f"{place.dotted}.kind: unknown, got {tag!r}; {_nearest(tag, _tags(place))}"
        case "union_tag_not_found":
            return f"{place.dotted}.kind: missing; one of {', '.join(_tags(place))}"
        case "string_pattern_mismatch":
            return f"{place.dotted}: got {_short(error['input'])}{_meaning(place.field) or '; ' + message}"
        case "string_type" if isinstance(error["input"], (bool, int, float)):
            return f"{place.dotted}: should be a text; got {_short(error['input'])}; write it in quotes"
        case kind if kind in MAPPING_EXPECTED:
            return f"{place.dotted or 'spec'}: should be a mapping of settings; got {_short(error['input'])}"
        case _:
            return f"{place.dotted or 'spec'}: {message}; got {_short(error['input'])}"


def _echo(place: Place, error: dict[str, Any], faults: list[tuple[Place, dict[str, Any]]]) -> bool:
    """A field that takes one value or a list reports both; the one that the user did not mean is left out."""
    others = [p for p, e in faults if e is not error and p.keys[: len(place.keys)] == place.keys]
    if not others:
        return False
    if error["type"] == "too_short":  # what is wrong with an item is counted as one item less
        return True
    listed = isinstance(error["input"], list)
    return (error["type"] in ONLY_VALUE and not listed) or (
        listed and error["type"].endswith("_type") and error["type"] not in ONLY_VALUE
    )


def _known_key(place: Place, key: str, location: tuple[Any, ...], root: type[BaseModel]) -> str:
    """The remedy for an unknown key: the nearest one here, or where the spec has this very key."""
    parent = place_of(tuple(location[:-1]), root)
    here = sorted({name for model in parent.models() for name in model.model_fields})
    homes = [".".join(home) for home in _homes(key, root) if home != place.keys]
    if homes and not difflib.get_close_matches(key, here, n=1, cutoff=0.8):
        return f"did you mean {homes[0]}?"
    return _nearest(key, here)


def _homes(
    key: str, model: type[BaseModel], keys: tuple[str, ...] = (), above: tuple[type[BaseModel], ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every place of the spec that has a key of this name, outermost first."""
    if model in above:  # a spec class that holds itself
        return
    if key in model.model_fields:
        yield (*keys, key)
    for name, field in model.model_fields.items():
        for inner in _models(field.annotation):
            yield from _homes(key, inner, (*keys, name), (*above, model))


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"


def _meaning(field: FieldInfo | None) -> str:
    """The first line of a field's docstring."""
    return f"; {field.description.splitlines()[0]}" if field is not None and field.description else ""


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _step(place: Place, item: Any) -> Place:
    """One element of a location: into a list, into the alternative that a tag chose, into a field, or a type's name."""
    if isinstance(item, int):
        return Place((*place.keys, str(item)), place.field, place.kind)
    models = place.models()
    for model in models:
        if _tag(model) == item:
            return Place(place.keys, place.field, model)
    for model in models:
        if item in model.model_fields:
            field = model.model_fields[item]
            return Place((*place.keys, item), field, field.annotation)
    return Place((*place.keys, str(item)), None, None) if models else place


def _tags(place: Place) -> list[str]:
    return [str(tag) for model in place.models() for tag in _tag_values(model)]


def _tag(model: type[BaseModel]) -> Any:
    values = _tag_values(model)
    return values[0] if values else None


def _tag_values(model: type[BaseModel]) -> tuple[Any, ...]:
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field else ()


def _models(kind: Any) -> list[type[BaseModel]]:
    """The spec classes within a declaration: through Annotated, unions and tuples."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _models(get_args(kind)[0])
    if origin in (Union, UnionType, tuple):
        return [model for part in get_args(kind) for model in _models(part)]
    return [kind] if isinstance(kind, type) and issubclass(kind, BaseModel) else []
