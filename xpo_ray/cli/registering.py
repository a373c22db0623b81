"""Datasets and models: what is asked for, checked before it is sent, and what was answered, shown."""

from collections.abc import Mapping

from pydantic import ValidationError

from xpo_ray.cli.plain_text import line
from xpo_ray.cli.showing import show_json, show_pairs, show_table
from xpo_ray.errors import UserError
from xpo_ray.wire.data import (
    DatasetPreview,
    DatasetView,
    ModelView,
    NewDataset,
    NewModel,
    RegisteredFiles,
    RegisteredHub,
)

CUT = 120


def new_dataset(name: str, path: str | None, repository: str | None, hub: Mapping[str, str | None]) -> NewDataset:
    """What to register. Raises UserError."""
    _either(path, repository)
    try:
        if path is not None:
            return NewDataset(name=name, source=RegisteredFiles(kind="files", path=path))
        return NewDataset(name=name, source=RegisteredHub.model_validate({"kind": "hub", "name": repository, **hub}))
    except ValidationError as error:
        raise _fault(error) from error


def new_model(name: str, path: str | None, repository: str | None, revision: str | None) -> NewModel:
    """What to register. Raises UserError."""
    _either(path, repository)
    try:
        return NewModel(name=name, path=path, repository=repository, revision=revision)
    except ValidationError as error:
        raise _fault(error) from error


def show_dataset(dataset: DatasetView, *, as_json: bool) -> None:
    """One dataset and its columns."""
    if as_json:
        show_json(dataset)
        return
    show_pairs(
        {
            "dataset": dataset.id,
            "name": dataset.name,
            "kind": dataset.kind,
            "rows": dataset.rows,
            "format": dataset.format,
            "usable for": ", ".join(dataset.usable_for),
        }
    )
    if dataset.columns:
        rows = [(c.name, c.type, c.role, c.missing) for c in dataset.columns]
        show_table("columns", ("name", "type", "role", "missing"), rows)


def show_preview(preview: DatasetPreview) -> None:
    """The first rows, cut."""
    rows = []
    for row in preview.rows:
        prompt = row.raw.get("prompt") if row.prompt is None else " ".join(m.get("content", "") for m in row.prompt)
        rows.append((row.row, *(None if t is None else line(t, CUT) for t in (prompt, row.chosen, row.rejected))))
    show_table("first rows", ("row", "prompt", "chosen", "rejected"), rows)


def show_model(model: ModelView, *, as_json: bool) -> None:
    """One model."""
    if as_json:
        show_json(model)
    else:
        show_pairs({"model": model.id, **model.model_dump(include={"name", "architecture", "parameters"})})
        show_pairs(model.model_dump(include={"path", "repository", "revision"}))


def _either(path: str | None, repository: str | None) -> None:
    if (path is None) == (repository is None):
        raise UserError("name either --path or --repository")


def _fault(error: ValidationError) -> UserError:
    first = error.errors()[0]
    return UserError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r:.80}")
