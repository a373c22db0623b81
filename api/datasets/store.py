"""Rows of datasets: made after their files are in place, removed before them. Functions on a session; no I/O but SQL."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Dataset, Run
from xpo_ray.api.datasets.findings import Findings
from xpo_ray.api.paging import unpack
from xpo_ray.api.problems import Refusal
from xpo_ray.run_states import FINAL
from xpo_ray.wire.data import ColumnReport, DatasetView


def row_of(
    dataset_id: str, owner: str, name: str, kind: str, source: dict[str, Any], found: Findings, at: datetime
) -> Dataset:
    """A row that is not in the database yet."""
    return Dataset(
        id=dataset_id,
        owner=owner,
        name=name,
        kind=kind,
        source=source,
        rows=found.rows,
        bytes=found.bytes,
        sha256=found.sha256,
        format=found.format,
        columns=[c.model_dump() for c in found.columns],
        usable_for=found.usable_for,
        created_at=at,
    )


def list_datasets(session: Session, after: str | None, limit: int) -> list[Dataset]:
    """Newest first."""
    query = select(Dataset).order_by(Dataset.created_at.desc(), Dataset.id.desc()).limit(limit)
    if after is not None:
        before, last = behind(after)
        query = query.where(or_(Dataset.created_at < before, (Dataset.created_at == before) & (Dataset.id < last)))
    return list(session.scalars(query))


def behind(cursor: str) -> tuple[datetime, str]:
    """Time and id of the last one of a page of a list by age. Raises Refusal."""
    at, last = unpack(cursor, str, str)
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Refusal(
            422, "cursor_invalid", "after: not a cursor of this list; use the `next` of a page", field="after"
        )
    return moment, last


def users_of(session: Session, dataset: Dataset) -> list[str]:
    """Ids of the runs that are not final and read this dataset."""
    query = select(Run.id, Run.spec).where(Run.status.not_in(FINAL)).order_by(Run.id)
    return [run_id for run_id, spec in session.execute(query) if _reads(spec, dataset)]


def view(row: Dataset) -> DatasetView:
    """A dataset as it goes over the wire; of an uploaded one the names of its files, never where they lie."""
    source = row.source
    if row.kind == "uploaded":
        source = {"kind": "files", "files": [path.rsplit("/", 1)[-1] for path in row.source["path"]]}
    return DatasetView(
        id=row.id,
        created_at=row.created_at,
        name=row.name,
        owner=row.owner,
        kind=row.kind,
        rows=row.rows,
        bytes=row.bytes,
        sha256=row.sha256,
        format=row.format,
        columns=[ColumnReport.model_validate(c) for c in row.columns],
        usable_for=row.usable_for,
        source=source,
    )


def _reads(spec: dict[str, Any], dataset: Dataset) -> bool:
    data = spec.get("data") or {}
    sources = [s for s in (data.get("source"), data.get("evaluation")) if isinstance(s, dict)]
    own = _identity(dataset.source)
    return any(s.get("id") == dataset.id or _identity(s) == own for s in sources)


def _identity(source: dict[str, Any]) -> str:
    """What a source names, whatever its limit: files, or a split of a repository."""
    if source.get("kind") == "files":
        path = source.get("path")
        return json.dumps(["files", [path] if isinstance(path, str) else path])
    return json.dumps([source.get(key) for key in ("kind", "name", "config", "split", "revision")])
