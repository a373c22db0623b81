"""The reconciler as a thread of the service; xpo_ray.api.workers starts and stops it."""

from xpo_ray.api.background import Background
from xpo_ray.api.cluster.link import ClusterView, Link
from xpo_ray.api.cluster.reconciler import EVERY_S, Reconciler
from xpo_ray.api.runs.queue import admit_waiting
from xpo_ray.api.services import Services

AT_MOST_EVERY_S = 0.5
"""A turn asks Ray; a hundred submissions a second are one turn's work."""


class ReconcilerThread(Background):
    """Turns at once when something has changed, each second while runs are under way, and now and then while none is."""

    def __init__(self, services: Services) -> None:
        self._reconciler = Reconciler(services, Link(services), admit_waiting)
        super().__init__("reconciler", self._reconciler.turn, EVERY_S, AT_MOST_EVERY_S)
        services.changes.listen(self.wake)

    @property
    def view(self) -> ClusterView:
        """The cluster as it was seen last."""
        return self._reconciler.view
