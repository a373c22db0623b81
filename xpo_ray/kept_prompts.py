"""Prompt tables kept in the folder of a run, so that the next attempt need not tokenise again.

    <output>/prompts/<key>.arrow    the table      <output>/prompts/<key>.json    its size, sha256, fingerprint and counts

The key says what a table was made from; the sidecar is written last. What has no sidecar, or not the bytes that it names, does
not count. Preparation asks here; the driver keeps tables once the folder is its own.
"""

import hashlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from xpo_ray.datasets.files import data_files
from xpo_ray.prompt_file import mapped
from xpo_ray.prompts import PromptSet
from xpo_ray.shards import PROMPTS
from xpo_ray.spec.data import Source
from xpo_ray.spec.loading import digest
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import read_json, replace_file, to_json

if TYPE_CHECKING:
    from xpo_ray.chat import Chat

FOLDER = "prompts"
SIDE_COUNTS = ("read", "dropped_overlong", "truncated_prompts", "cut_responses", "invalid_rows")


def source_key(spec: RunSpec, source: Source, chat: "Chat", needs_pairs: bool) -> str | None:
    """What a prompt table follows from: the bytes of the files, how they are read, the tokenizer and the template.

    None for a hub dataset, whose rows may change under its name, for a tokenizer that is not one file, and for what cannot be
    read.
    """
    backend = getattr(chat.tokenizer, "backend_tokenizer", None)
    if source.kind != "files" or backend is None:
        return None
    try:
        files = [(file.suffix, _sha256(file)) for file in data_files(source.path)]
    except OSError:  # the reader says what is wrong with it
        return None
    read = spec.data.model_dump(
        include={"columns", "max_prompt_tokens", "max_response_tokens", "overlong_prompts", "invalid_rows"}
    )
    tokens = [
        hashlib.sha256(backend.to_str().encode()).hexdigest(),
        chat.tokenizer.special_tokens_map,
        [chat.template, chat.joins_turns, chat.eos_id, list(chat.eos_ids)],
    ]
    versions = [version(name) for name in ("xpo-ray", "datasets", "tokenizers", "transformers")]
    return digest([files, source.limit, needs_pairs, read, str(tokens), versions])[:16]


def keep(prompts: PromptSet, root: Path) -> PromptSet:
    """Write a table into the folder of a run, which must be the caller's own, and go on with the file there."""
    if prompts.key is None or kept(root, prompts.key) is not None:
        return prompts
    file = root / FOLDER / f"{prompts.key}.arrow"
    file.parent.mkdir(exist_ok=True)
    sidecar = file.with_suffix(".json")
    sidecar.unlink(missing_ok=True)
    with file.open("wb") as sink, pa.ipc.new_file(sink, PROMPTS) as writer:
        writer.write_table(prompts.table)
    with file.open("rb") as written:
        os.fsync(written.fileno())
    counts = {name: getattr(prompts, name) for name in SIDE_COUNTS}
    content = {"size": file.stat().st_size, "sha256": _sha256(file), "fingerprint": prompts.fingerprint}
    replace_file(sidecar, to_json({**content, "counts": counts}))
    return _opened(file, prompts.key, counts, prompts.fingerprint)


def kept(root: Path, key: str) -> PromptSet | None:
    """The table that was kept under a key; None where there is none, or its bytes are not those that were written."""
    file = root / FOLDER / f"{key}.arrow"
    try:
        sidecar = read_json(file.with_suffix(".json"))
        if file.stat().st_size != sidecar["size"] or _sha256(file) != sidecar["sha256"]:
            return None
    except FileNotFoundError:
        return None
    return _opened(file, key, sidecar["counts"], sidecar["fingerprint"])


def _opened(file: Path, key: str, counts: dict[str, int], fingerprint: str) -> PromptSet:
    prompts = PromptSet(mapped(file), key=key, **counts)
    prompts.__dict__["fingerprint"] = fingerprint  # of a cached property: the bytes are those that it was taken of
    return prompts


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
