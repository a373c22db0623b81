"""Checkpoints of a run as the API shows them, with ids that are hashes, and how an id is found again.

A file's id stands for these bytes: the same name under another attempt has another id.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from xpo_ray.api.artifacts.committed import Committed
from xpo_ray.api.artifacts.opening import gone
from xpo_ray.api.problems import not_found
from xpo_ray.storage import Checkpoint
from xpo_ray.wire.artifacts import CheckpointView, FileView

Metrics = Mapping[int, dict[str, Any]]


def checkpoint_id(run_id: str, checkpoint: Checkpoint) -> str:
    """A stable id."""
    return f"ckpt_{_hash(run_id, checkpoint.path)}"


def file_id(run_id: str, checkpoint: Checkpoint, name: str) -> str:
    """A stable id of one file of a checkpoint."""
    return f"file_{_hash(run_id, checkpoint.path, name)}"


def list_checkpoints(root: Path, run_id: str, metrics: Metrics, selected: int | None) -> list[CheckpointView]:
    """All published checkpoints, oldest first."""
    committed = Committed.of(root)
    published = [] if committed is None else committed.checkpoints()
    return [_view(root, run_id, c, metrics, selected) for c in published]


def find_checkpoint(root: Path, run_id: str, wanted: str) -> Checkpoint:
    """The checkpoint with this id. Raises Refusal: 404 where there is none, 410 where its files were freed."""
    committed = Committed.of(root)
    for checkpoint in [] if committed is None else committed.checkpoints():
        if checkpoint_id(run_id, checkpoint) == wanted:
            if not (root / checkpoint.path).is_dir():
                raise gone(f"checkpoint {wanted}")
            return checkpoint
    raise not_found("checkpoint", wanted)


def find_file(run_id: str, checkpoint: Checkpoint, wanted: str) -> tuple[str, int, str]:
    """Name, size and sha256 of the file with this id. Raises Refusal."""
    for name, (size, sha256) in checkpoint.files.items():
        if file_id(run_id, checkpoint, name) == wanted:
            return name, size, sha256
    raise not_found("file", wanted)


def _view(root: Path, run_id: str, checkpoint: Checkpoint, metrics: Metrics, selected: int | None) -> CheckpointView:
    border = checkpoint.step == 0
    files = [
        FileView(id=file_id(run_id, checkpoint, name), name=name, size=size, sha256=sha256)
        for name, (size, sha256) in sorted(checkpoint.files.items())
    ]
    return CheckpointView(
        id=checkpoint_id(run_id, checkpoint),
        iteration=checkpoint.iteration,
        step=checkpoint.step,
        total_steps=checkpoint.total_steps,
        size=sum(f.size for f in files),
        created_at=_published_at(root, checkpoint),
        attempt=int(Path(checkpoint.path).parts[1]),
        kept=(root / checkpoint.path).is_dir(),
        selected=border and checkpoint.iteration == selected,
        metrics=metrics.get(checkpoint.iteration) if border else None,
        files=files,
    )


def _published_at(root: Path, checkpoint: Checkpoint) -> datetime:
    sidecar = (root / checkpoint.path).with_name(f"{checkpoint.name}.json")
    return datetime.fromtimestamp(sidecar.stat().st_mtime, UTC)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
