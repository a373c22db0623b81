"""The base of every spec class, and the mark of fields that do not decide the result of a run."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Spec(BaseModel):
    """Frozen, closed to unknown keys; the docstring under a field is what the JSON Schema shows."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


OPERATIONAL = "x-operational"
LATER = "x-later"


def operational(default: Any, **constraints: Any) -> Any:
    """A field that may change between attempts: it moves work about but not what is learned (DESIGN §4.14)."""
    return Field(default, json_schema_extra={OPERATIONAL: True}, **constraints)


def later(default: Any, **constraints: Any) -> Any:
    """A field that decides the result and came after runs had been made without it: at its default, which is what was done
    before, it is no part of a run's identity, so that those runs can be resumed."""
    return Field(default, json_schema_extra={LATER: True}, **constraints)


def decisive(spec: BaseModel) -> dict[str, Any]:
    """The part of a spec that decides the result: all fields but the operational ones, and later ones only where they differ
    from their default, as plain JSON data."""
    out: dict[str, Any] = {}
    for name, field in type(spec).model_fields.items():
        extra = field.json_schema_extra
        marks = extra if isinstance(extra, dict) else {}
        value = getattr(spec, name)
        if marks.get(OPERATIONAL) or (marks.get(LATER) and value == field.default):
            continue
        out[name] = decisive(value) if isinstance(value, BaseModel) else _plain(value)
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [decisive(v) if isinstance(v, BaseModel) else _plain(v) for v in value]
    return value
