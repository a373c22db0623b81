"""Which judge an error speaks of: that of the evaluation, or a member of an ensemble, by the name of its field.

The checks before a run, the opening of judges and the ensemble wrap what one judge says. Of the run's only judge nothing is
added: its own messages name the field.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from xpo_ray.errors import JudgeError, JudgeUnreachable


@contextmanager
def named(field: str, kind: str) -> Iterator[None]:
    """Puts `field (kind)` before the message of a JudgeError or JudgeUnreachable; nothing before that of `judge`."""
    try:
        yield
    except (JudgeError, JudgeUnreachable) as error:
        if field == "judge":
            raise
        raise type(error)(f"{field} ({kind}): {error}") from error
