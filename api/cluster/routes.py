"""The cluster over REST: whether Ray answers, what it has, what is given away."""

from fastapi import APIRouter, Request
from sqlalchemy import func, select

from xpo_ray.api.auth import Principal, allow
from xpo_ray.api.cluster.link import ClusterView
from xpo_ray.api.database.tables import Run
from xpo_ray.api.services import TheServices
from xpo_ray.run_states import ALIVE
from xpo_ray.wire.cluster import ClusterAnswer
from xpo_ray.wire.runs import Reservation

router = APIRouter(tags=["cluster"])


@router.get("/cluster")
def cluster(request: Request, services: TheServices, _caller: Principal = allow("read")) -> ClusterAnswer:
    """The cluster as the reconciler saw it last."""
    view = _view(request)
    with services.database.read() as session:
        held = session.execute(
            select(func.sum(Run.cpus), func.sum(Run.gpus), func.sum(Run.memory_gib)).where(Run.status.in_(ALIVE))
        ).one()
        queued = session.scalar(select(func.count()).where(Run.status == "queued")) or 0
    totals = view.totals
    return ClusterAnswer(
        alive=view.alive,
        address=view.address,
        dashboard=services.settings.dashboard_url or view.address,
        totals=Reservation(cpus=totals.cpus, gpus=totals.gpus, memory_gib=totals.memory_gib),
        reserved=Reservation(cpus=held[0] or 0.0, gpus=held[1] or 0.0, memory_gib=held[2] or 0.0),
        queue_length=queued,
    )


def _view(request: Request) -> ClusterView:
    for worker in request.app.state.background:
        found = getattr(worker, "view", None)
        if isinstance(found, ClusterView):
            return found
    return ClusterView()
