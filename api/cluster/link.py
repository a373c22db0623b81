"""The cluster that the service works with: the local head, or the one at `ray_address`; and what was last heard of it.

The reconciler keeps it up to date; routes only read `view`.
"""

from dataclasses import dataclass, field

from xpo_ray.api.cluster.capacity import Totals, totals_of
from xpo_ray.api.cluster.head import Head
from xpo_ray.api.cluster.jobs import Jobs, RayAway
from xpo_ray.api.services import Services


@dataclass(frozen=True)
class ClusterView:
    """The cluster as it was seen last."""

    alive: bool = False
    address: str | None = None
    totals: Totals = field(default_factory=Totals)


class Link:
    """Finds the cluster's jobs; starts the local head where it is ours and died."""

    def __init__(self, services: Services) -> None:
        settings = services.settings
        self._settings = settings
        self.head = None if settings.ray_address else Head(services.storage, settings.ray_dashboard_port)
        self._jobs: Jobs | None = None

    def jobs(self) -> Jobs:
        """The jobs of the living cluster. Raises RayAway."""
        if self.head is None:
            assert self._settings.ray_address is not None
            return self._of(self._settings.ray_address)
        try:
            return self._of(self.head.ensure().address)
        except (TimeoutError, OSError) as error:
            raise RayAway(f"the Ray head does not start: {error}") from error

    def view(self, jobs: Jobs) -> ClusterView:
        """The cluster as it is now. Raises RayAway."""
        return ClusterView(True, jobs.address, totals_of(self._settings, jobs.resources()))

    def _of(self, address: str) -> Jobs:
        if self._jobs is None or self._jobs.address != address.rstrip("/"):
            self._jobs = Jobs(address, self._token())
        return self._jobs

    def _token(self) -> str | None:
        if self.head is not None:
            return self.head.token()
        file = self._settings.ray_token_file
        return None if file is None else file.read_text().strip()
