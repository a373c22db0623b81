"""From a YAML file and `--set` overrides to a RunSpec, with errors that name the field, the value and the remedy."""

import difflib
import hashlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from xpo_ray.errors import SpecError
from xpo_ray.spec.base import decisive
from xpo_ray.spec.run import RunSpec


def load_spec(path: Path, overrides: Sequence[str] = ()) -> RunSpec:
    """Read a spec, apply `key.path=value` overrides, fill in the seed, and make every path absolute.

    Relative paths are taken from the folder of the spec file. Raises SpecError.
    """
    return resolve(read_yaml(path), overrides, path.resolve().parent)


def resolve(raw: dict[str, Any], overrides: Sequence[str], folder: Path) -> RunSpec:
    """As load_spec, from data already read."""
    for override in overrides:
        apply_override(raw, override)
    raw.setdefault("seed", None)
    if raw["seed"] is None:
        raw["seed"] = secrets.randbelow(2**31)
    return parse_spec(absolute_paths(raw, folder))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises SpecError where there is none."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SpecError(f"{path}: no such spec file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise SpecError(f"{path}: a spec is a mapping, got {type(raw).__name__}; see `xpo-ray schema`")
    return raw


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one `a.b.c=value`; the value is read as YAML, so 1e-5 is a number and [1, 2] a list. Raises SpecError."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise SpecError(f"--set {override}: expected key.path=value, for example training.learning_rate=1e-5")
    *parents, last = key.strip().split(".")
    node: Any = raw
    for depth, name in enumerate(parents):
        node = node.setdefault(name, {}) if isinstance(node, dict) else node
        if not isinstance(node, dict):
            raise SpecError(f"--set {override}: {'.'.join(parents[: depth + 1])} is not a mapping")
    node[last] = _scalar(text)


def _scalar(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"--set value {text!r} is not YAML: {error}") from error
    if isinstance(value, str):
        try:
            return float(value)  # YAML 1.1 reads 1e-5 as text
        except ValueError:
            return value
    return value


def absolute_paths(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Turn the paths of a raw spec into absolute ones; a model that is no folder here is left as a hub repository."""
    out: dict[str, Any] = json.loads(json.dumps(raw, default=str))
    for keys in (("output",), ("data", "source"), ("data", "evaluation")):
        node = _descend(out, keys)
        if isinstance(node, dict) and "path" in node and node.get("kind", "files") == "files":
            node["path"] = _absolute(node["path"], folder)
    for keys in (("model",), ("judge",), ("evaluation", "judge")):
        node = _descend(out, keys)
        if not isinstance(node, dict):
            continue
        if isinstance(node.get("path"), str) and _looks_local(node["path"], folder):
            node["path"] = _absolute(node["path"], folder)
        if isinstance(node.get("chat_template"), str) and node["chat_template"] not in ("tokenizer", "plain"):
            node["chat_template"] = _absolute(node["chat_template"], folder)
    return out


def _descend(node: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _absolute(path: Any, folder: Path) -> Any:
    if isinstance(path, list):
        return [_absolute(p, folder) for p in path]
    return str((folder / Path(path).expanduser()).absolute()) if isinstance(path, str) else path


def _looks_local(path: str, folder: Path) -> bool:
    """A hub repository is `owner/name`; anything that exists here or could not be one is a folder."""
    return path.startswith((".", "/", "~")) or path.count("/") != 1 or (folder / path).exists()


def parse_spec(raw: dict[str, Any]) -> RunSpec:
    """Validate a raw spec. Raises SpecError with one line for each fault."""
    try:
        return RunSpec.model_validate(raw)
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(dict(e))}" for e in error.errors(include_url=False))
        raise SpecError(f"the spec is not valid:\n{faults}") from error


def _fault(error: dict[str, Any]) -> str:
    loc = tuple(error["loc"])
    where = _dotted(loc)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), fields := _fields_at(loc[:-1]), n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(fields))}"
        return f"{where}: unknown key; {remedy}"
    if error["type"] == "missing":
        return f"{where}: missing"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error" and not loc:
        return message
    return f"{where or 'spec'}: {message}; got {_short(error['input'])}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _dotted(loc: tuple[Any, ...]) -> str:
    """The keys of an error's location as the user wrote them, without the tags of unions."""
    names: list[str] = []
    kind: Any = RunSpec
    for item in loc:
        kind, is_key = _step(kind, item)
        if is_key:
            names.append(str(item))
    return ".".join(names)


def _fields_at(loc: tuple[Any, ...]) -> list[str]:
    kind: Any = RunSpec
    for item in loc:
        kind, _ = _step(kind, item)
    models = [k for k in _alternatives(kind) if isinstance(k, type) and issubclass(k, BaseModel)]
    return sorted({name for m in models for name in m.model_fields})


def _step(kind: Any, item: Any) -> tuple[Any, bool]:
    """One element of an error's location: into a field, into a list, or into the alternative that a tag chose."""
    choices = _alternatives(kind)
    if isinstance(item, int):
        return kind, True
    tagged = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel) and _tag(c) == item]
    if tagged:
        return tagged[0], False
    for choice in choices:
        if isinstance(choice, type) and issubclass(choice, BaseModel) and item in choice.model_fields:
            return choice.model_fields[item].annotation, True
    known = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)]
    return kind, bool(known)


def _tag(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("kind")
    args = get_args(field.annotation) if field else ()
    return args[0] if args else None


def _alternatives(kind: Any) -> list[Any]:
    origin = get_origin(kind)
    if origin is Annotated:
        return _alternatives(get_args(kind)[0])
    if origin in (Union, UnionType, tuple):
        return [a for k in get_args(kind) for a in _alternatives(k)]
    return [kind]


def identity(spec: RunSpec, fingerprints: dict[str, str]) -> dict[str, Any]:
    """What decides the result of a run: the decisive part of its spec, and hashes of its data and model (DESIGN §4.14)."""
    return {"spec": decisive(spec), "fingerprints": fingerprints}


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of plain data, as hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
