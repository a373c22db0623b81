"""What an attempt that failed tells: a code, whose fault it is, and whether another attempt could do better.

Errors of the spec, the data and the judge are the user's, and end the run. CorruptArtifact and LedgerMismatch are nobody's the
user could mend, and another attempt would read the same bytes: the run ends, as the system's. Everything else (a role that died
too often, an error of ours) is tried again; and a full disk, whatever error it came as, until there is room.
"""

import re
import traceback

from xpo_ray.errors import CorruptArtifact, JudgeFailed, LedgerMismatch, TrainingDiverged, UserError
from xpo_ray.full_disk import is_full
from xpo_ray.wire.runs import RunError

OF_THE_USER = (UserError, TrainingDiverged, JudgeFailed)
LASTING = (*OF_THE_USER, CorruptArtifact, LedgerMismatch)
MOST_CHARACTERS = 20_000
DISK_FULL = "disk_full"
"""The code of every error that a full disk was behind."""


def run_error(error: BaseException) -> RunError:
    """An error as the run's record keeps it; the traceback ends with what an actor added of its own."""
    told = "".join(traceback.format_exception(error))
    full = is_full(error)
    return RunError(
        code=DISK_FULL if full else re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower(),
        message=str(error)[:MOST_CHARACTERS] or type(error).__name__,
        kind="user" if isinstance(error, OF_THE_USER) and not full else "system",
        traceback=told[-MOST_CHARACTERS:],
    )


def lasting(error: BaseException) -> bool:
    """Whether another attempt would fail in the same way."""
    return isinstance(error, LASTING) and not is_full(error)
