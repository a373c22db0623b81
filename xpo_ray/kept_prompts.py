"""Prompt tables kept in the folder of a run from its first attempt on: the next one reads the ids that the run began with.

    <output>/prompts/<name>.arrow    the table      <output>/prompts/<name>.json    size, sha256, fingerprint, counts, origin

`name` is source or evaluation. The origin says what a table was made from, so that a change of it is seen and told; versions
of libraries and the date, which a template may write, are no part of it. The sidecar is written last. Preparation asks here;
the driver keeps tables once the folder is its own.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from xpo_ray.datasets.files import data_files
from xpo_ray.full_disk import told
from xpo_ray.model_files import model_folder
from xpo_ray.prompt_file import mapped
from xpo_ray.prompts import PromptSet
from xpo_ray.shards import PROMPTS
from xpo_ray.spec.base import decisive
from xpo_ray.spec.data import Source
from xpo_ray.spec.loading import digest
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import read_json, replace_file, to_json

if TYPE_CHECKING:
    from xpo_ray.chat import Chat

FOLDER = "prompts"
SIDE_COUNTS = ("read", "dropped_overlong", "truncated_prompts", "cut_responses", "invalid_rows")
TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab*", "merges*", "added_tokens.json", "*.tiktoken", "tekken.json")
READ_BY = ("columns", "max_prompt_tokens", "max_response_tokens", "overlong_prompts", "invalid_rows")
TEMPLATE = "the chat template"
Origin = dict[str, str]
"""What a table was made from: a text, or the sha256 of one, by what a message calls it."""


def origin_of(spec: RunSpec, source: Source, chat: "Chat", needs_pairs: bool) -> Origin | None:
    """What a prompt table follows from: the bytes of the files or the name on the hub, how rows are read, the tokenizer and the
    template. None for what cannot be read, of which the reader says what is wrong."""
    try:
        rows = _rows(source)
        tokenizer = _tokenizer(spec)
    except OSError:
        return None
    settings = {name: value for name, value in decisive(spec.data).items() if name in READ_BY}
    told = {name: value for name, value in chat.record().items() if name != "clock"}
    template = told.pop("template")
    return {
        "the data": rows,
        "how the data are read": digest([settings, source.limit, needs_pairs, chat.joins_turns]),
        "the tokenizer's files": tokenizer,
        TEMPLATE: template or "",
        "the tokens that end a turn, or the template's arguments": json.dumps(told, sort_keys=True, ensure_ascii=False),
    }


def first_clock(root: Path) -> datetime | None:
    """What a template took for the date in the first attempt at the run in this folder, so that prompts that are lost can be
    made again; None where there was none."""
    for record in sorted(root.glob("attempts/*/attempt.json")):
        if (clock := read_json(record).get("chat", {}).get("clock")) is not None:
            return datetime.fromisoformat(clock)
    return None


def _rows(source: Source) -> str:
    if source.kind == "files":
        return digest([(file.suffix, _sha256(file)) for file in data_files(source.path)])
    return json.dumps(source.model_dump(mode="json", exclude={"limit"}), sort_keys=True)


def _tokenizer(spec: RunSpec) -> str:
    """By the bytes of its files, which a newer library leaves alone; of a hub repository by its name."""
    folder = model_folder(spec.model.path)
    if folder is None:
        return f"{spec.model.path}@{spec.model.revision}"
    files = sorted({file for pattern in TOKENIZER_FILES for file in folder.glob(pattern)})
    return digest([(file.name, _sha256(file)) for file in files])


def keep(prompts: PromptSet, root: Path, name: str) -> PromptSet:
    """Write a table into the folder of a run, which must be the caller's own, and go on with the file there."""
    if prompts.origin is None or kept(root, name, prompts.origin) is not None:
        return prompts
    file = _file(root, name)
    file.parent.mkdir(exist_ok=True)
    sidecar = file.with_suffix(".json")
    sidecar.unlink(missing_ok=True)
    _write(prompts.table, file)
    counts = {count: getattr(prompts, count) for count in SIDE_COUNTS}
    content = {"size": file.stat().st_size, "sha256": _sha256(file), "fingerprint": prompts.fingerprint}
    replace_file(sidecar, to_json({**content, "counts": counts, "origin": prompts.origin}))
    return _opened(file, counts, prompts.fingerprint, prompts.origin)


def _write(table: pa.Table, file: Path) -> None:
    """Beside it first: an attempt that was superseded may still read, or write, a file of this name."""
    aside = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        with told(file.parent), aside.open("wb") as sink:
            with pa.ipc.new_file(sink, PROMPTS) as writer:
                writer.write_table(table)
            os.fsync(sink.fileno())
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def kept(root: Path, name: str, origin: Origin) -> PromptSet | None:
    """The table that was kept; None where there is none of this origin, or its bytes are not those that were written."""
    file = _file(root, name)
    sidecar = _sidecar(file)
    if sidecar is None or sidecar["origin"] != origin or not _whole(file, sidecar):
        return None
    return _opened(file, sidecar["counts"], sidecar["fingerprint"], origin)


def not_kept(root: Path, name: str, origin: Origin | None) -> str | None:
    """Why an earlier attempt's table was not read, to be told where the new one differs; None where there was none."""
    file = _file(root, name)
    if not (root / "attempts").exists() or origin is None:
        return None
    sidecar = _sidecar(file)
    if sidecar is None or not file.exists():
        why = f"{file} of the earlier attempt is missing"
    elif changes := list(_changes(sidecar["origin"], origin)):
        why = "; ".join(changes)
    else:
        why = f"{file} is damaged"
    dated = "strftime_now" in origin[TEMPLATE] and first_clock(root) is None
    return f"data.{name} was tokenised again: {why}" + (
        "; the chat template writes the date, so prompts of another day differ" if dated else ""
    )


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for what in (what for what in new if old.get(what) != new[what]):
        yield f"{what} changed" + (f": {_first_line(old.get(what, ''), new[what])}" if what == TEMPLATE else "")


def _first_line(old: str, new: str) -> str:
    """The first line in which two texts differ."""
    lines = enumerate(zip_longest(old.splitlines(), new.splitlines(), fillvalue=""), 1)
    number, (was, now) = next(((n, pair) for n, pair in lines if pair[0] != pair[1]), (1, ("", "")))
    return f"line {number} was {was[:120]!r}, is {now[:120]!r}"


def _file(root: Path, name: str) -> Path:
    return root / FOLDER / f"{name}.arrow"


def _sidecar(file: Path) -> dict[str, Any] | None:
    try:
        sidecar: dict[str, Any] = read_json(file.with_suffix(".json"))
    except (FileNotFoundError, ValueError):  # ValueError: damaged
        return None
    return sidecar if {"size", "sha256", "fingerprint", "counts", "origin"} <= sidecar.keys() else None


def _whole(file: Path, sidecar: Mapping[str, Any]) -> bool:
    return file.exists() and file.stat().st_size == sidecar["size"] and _sha256(file) == sidecar["sha256"]


def _opened(file: Path, counts: dict[str, int], fingerprint: str, origin: Origin) -> PromptSet:
    prompts = PromptSet(mapped(file), origin=origin, **counts)
    prompts.__dict__["fingerprint"] = fingerprint  # of a cached property: the bytes are those that it was taken of
    return prompts


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
