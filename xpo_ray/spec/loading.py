"""From a YAML file and `--set` overrides to a RunSpec, with errors that name the field, the value and the remedy."""

import copy
import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from xpo_ray.errors import SpecError
from xpo_ray.spec.base import decisive
from xpo_ray.spec.faults import explain, misread_booleans
from xpo_ray.spec.run import RunSpec
from xpo_ray.spec.yaml_text import Misread, parse, read_text, said

SeedOf = Callable[[Path], int | None]


def load_spec(path: Path, overrides: Sequence[str] = (), *, seed_of: SeedOf = lambda _output: None) -> RunSpec:
    """Read a spec, apply `key.path=value` overrides, fill in the seed, and make every path absolute.

    Relative paths are taken from the folder of the spec file. A seed that is left open is that of the run in the output
    folder, as `seed_of` knows it, else made at random. Raises SpecError.
    """
    return resolve(read_yaml(path), overrides, path.resolve().parent, seed_of=seed_of)


def resolve(
    raw: dict[str, Any], overrides: Sequence[str], folder: Path, *, seed_of: SeedOf = lambda _output: None
) -> RunSpec:
    """As load_spec, from data already read, which is left as it is."""
    raw = copy.deepcopy(raw)
    for override in overrides:
        apply_override(raw, override)
    raw = absolute_paths(raw, folder)
    if raw.get("seed") is None:
        output = _descend(raw, ("output", "path"))
        known = seed_of(Path(output)) if isinstance(output, str) else None
        raw["seed"] = secrets.randbelow(2**31) if known is None else known
    return parse_spec(raw)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises SpecError where there is none."""
    try:
        text = read_text(path)
    except FileNotFoundError as error:
        raise SpecError(f"{path}: no such spec file") from error
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    try:
        raw = parse(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: {'' if isinstance(error, Misread) else 'not YAML: '}{said(error, text)}") from error
    if not isinstance(raw, dict):
        raise SpecError(f"{path}: a spec is a mapping, got {type(raw).__name__}; see `xpo-ray schema`")
    return raw


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one `a.b.c=value` in place; the value is read as YAML, so [1, 2] is a list. Raises SpecError."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise SpecError(f"--set {override}: expected key.path=value, for example training.learning_rate=1e-5")
    *parents, last = key.strip().split(".")
    node: Any = raw
    for depth, name in enumerate(parents):
        if node.get(name) is None:
            node[name] = {}
        node = node[name]
        if not isinstance(node, dict):
            raise SpecError(f"--set {override}: {'.'.join(parents[: depth + 1])} is not a mapping, it is {node!r}")
    node[last] = _value(text)


def _value(text: str) -> Any:
    try:
        return parse(text)
    except Misread as error:
        raise SpecError(f"--set value {text!r}: {said(error, text)}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"--set value {text!r} is not YAML: {said(error, text)}; quote it") from error


def absolute_paths(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Turn the paths of a raw spec into absolute ones; a model that is no folder here is left as a hub repository."""
    try:
        out: dict[str, Any] = json.loads(json.dumps(raw, default=str))
    except ValueError as error:  # a YAML anchor within itself
        raise SpecError(
            f"the spec is not plain data: {error}; write it without anchors that hold themselves"
        ) from error
    for keys in (("output",), ("data", "source"), ("data", "evaluation")):
        node = _descend(out, keys)
        if isinstance(node, dict) and "path" in node and node.get("kind", "files") == "files":
            node["path"] = _absolute(node["path"], folder)
    judges = (_descend(out, keys) for keys in (("judge",), ("evaluation", "judge")))
    for node in (out.get("model"), *(each for judge in judges for each in (judge, *_members(judge)))):
        if not isinstance(node, dict):
            continue
        for name in ("path", "backbone"):
            if isinstance(node.get(name), str) and _looks_local(node[name], folder):
                node[name] = _absolute(node[name], folder)
        if isinstance(node.get("chat_template"), str) and node["chat_template"] not in ("tokenizer", "plain"):
            node["chat_template"] = _absolute(node["chat_template"], folder)
        if isinstance(node.get("template"), str):
            node["template"] = _absolute(node["template"], folder)
    return out


def _members(judge: Any) -> list[Any]:
    """The raw judges of a raw ensemble."""
    members = judge.get("members") if isinstance(judge, dict) else None
    return [_descend(member, ("judge",)) for member in members] if isinstance(members, list) else []


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
        spec = RunSpec.model_validate(raw)
    except ValidationError as error:
        raise _invalid(explain(error, RunSpec)) from error
    if faults := list(misread_booleans(raw, spec)):
        raise _invalid(faults)
    return spec


def _invalid(faults: list[str]) -> SpecError:
    return SpecError("\n".join(["the spec is not valid:", *(f"  {fault}" for fault in faults)]))


def identity(spec: RunSpec, fingerprints: dict[str, str]) -> dict[str, Any]:
    """What decides the result of a run: the decisive part of its spec, and hashes of its data and model (DESIGN §4.14)."""
    return {"spec": decisive(spec), "fingerprints": fingerprints}


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of plain data, as hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
