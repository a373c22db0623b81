"""Deleting a run: the row is marked, the files go, the row goes last, so that a kill between leaves work for `sweep`."""

import shutil
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from xpo_ray.api.auth import Principal, own_run
from xpo_ray.api.database.tables import Run
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services
from xpo_ray.run_states import FINAL


def delete_run(services: Services, caller: Principal, run_id: str) -> None:
    """Delete a run that has ended. Raises Refusal 409 while it has not, or while a fork was made from it."""
    with services.database.write() as session:
        session.execute(select(Run.id).where(Run.id == run_id).with_for_update())
        run = own_run(session, caller, run_id, change=True)
        if run.status not in FINAL:
            raise Refusal(
                409,
                "run_state_conflict",
                f"run {run_id} is {run.status}; cancel it and wait for its end",
                field="status",
            )
        if forks := forks_of(session, run_id):
            raise Refusal(409, "run_has_forks", f"the model of run {run_id} is needed by {', '.join(forks)}")
        run.deleting = True
        run.version += 1
    services.changes.tell(run_id)
    _remove(services, run_id)


def forks_of(session: Session, run_id: str) -> list[str]:
    """Ids of the runs that were forked from this one and are still there."""
    query = select(Run.id).where(Run.forked_run == run_id, Run.deleting.is_(False)).order_by(Run.id)
    return list(session.scalars(query))


def sweep(services: Services) -> None:
    """Finish the deletions that a killed service left."""
    with services.database.read() as session:
        marked = list(session.scalars(select(Run.id).where(Run.deleting.is_(True)).order_by(Run.created_at.desc())))
    for run_id in marked:
        _remove(services, run_id)


def _remove(services: Services, run_id: str) -> None:
    folder = services.run_folder(run_id)
    if folder.exists():
        shutil.rmtree(folder, onerror=_unless_gone)
    with services.database.write() as session:
        run = session.get(Run, run_id)
        if run is None or session.scalar(select(Run.id).where(Run.forked_run == run_id)) is not None:
            return
        session.delete(run)


def _unless_gone(_remove: Any, _path: Any, failure: Any) -> None:
    """A request and a sweep may remove the same folder; a file that cannot be removed keeps the row."""
    if not issubclass(failure[0], FileNotFoundError):
        raise failure[1]
