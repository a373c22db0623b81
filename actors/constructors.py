"""An actor whose constructor raised is told apart from one that died: what it raised is the answer to every call, as it is.

Ray ends the process of such an actor and says no more than the text of its traceback; pools and the trainer's seat would take
that for a death and start the next process, only to fail in the same way. `start_actor` makes its classes of these.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from ray.exceptions import RayActorError, RayError

from xpo_ray.errors import ActorLost


def answering(cls: type) -> type:
    """The class, whose instances keep an exception of their constructor and raise it from each of their methods."""

    def begin(self: Any, *args: Any) -> None:
        self.not_made = None
        try:
            cls.__init__(self, *args)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - the edge of an actor: whatever it was is told to the driver
            self.not_made = error

    names = [name for name in dir(cls) if not name.startswith("_") and callable(getattr(cls, name))]
    methods = {name: _raising_first(getattr(cls, name)) for name in names}
    return type(cls.__name__, (cls,), {"__init__": begin, "__module__": cls.__module__, **methods})


def _raising_first(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def answer(self: Any, *args: Any) -> Any:
        if self.not_made is not None:
            raise self.not_made
        return method(self, *args)

    return answer


def refuse_unmade(role: str, error: RayError) -> None:
    """Raises ActorLost, with what Ray says, for an actor that could not be made at all: its class or its arguments cannot be
    read in its process. Another process would fail in the same way."""
    if isinstance(error, RayActorError) and error.actor_init_failed:
        raise ActorLost(f"{role} cannot be started: {error}") from error
