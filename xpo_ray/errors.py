"""The errors that xpo_ray raises on purpose. All take one message, so that all of them pickle across actors.

XpoRayError
├── UserError (ValueError)      bad input, found before anything starts; exit code 2
│   ├── SpecError               the spec: unknown key, wrong type, contradiction
│   ├── DoesNotFit              what certainly lies in memory is more than the machine, or a GPU, has
│   ├── DatasetError            a file, column or row that cannot be read
│   ├── ModelError              a model folder without weights, tokenizer or chat template
│   ├── JudgeError              a judge that cannot be imported or loaded
│   ├── OutputError             the output folder is locked or holds another run
│   └── ResumeError             what decides the result has changed since the run began
├── RunFailed (RuntimeError)    the run stopped; what was committed stays; exit code 1
│   ├── TrainingDiverged        a loss or gradient that is not finite
│   ├── JudgeFailed             too many prompts of a shard could not be judged
│   ├── NeedsAttention          the run pauses by itself, until a user has seen to something
│   │   ├── JudgeUnreachable    the judge is out of reach, and waiting can help
│   │   └── NothingLearned      too many windows in a row had no pair
│   ├── CanaryMismatch          an engine serves other weights than the trainer published
│   ├── LedgerMismatch          a replayed step saw other pairs than the first time
│   ├── ActorLost               a role died more often than the limit allows
│   ├── RayNotStarted           Ray's processes did not come up in time
│   ├── PlacementFailed         the cluster has no room for the processes of a role
│   └── DiskFull                there was no room for what was to be written; nothing half-written counts
├── GroupBroken (RuntimeError)  a rank of a trainer group has lost the others; the group starts anew
├── CorruptArtifact             a committed file is missing or does not match its sha256
├── Stopped                     an attempt ends because it was asked to; nothing is wrong
│   ├── Paused                  what was under way is committed; the next attempt goes on
│   ├── Cancelled               the run ends here
│   └── Superseded              another attempt has the run; nothing more may be written
└── ServiceRefused              the service does not grant an attempt, or does not take a report
"""


class XpoRayError(Exception):
    """Root of all errors raised on purpose."""


class UserError(XpoRayError, ValueError):
    """Bad input; the message names what, where, what was got, and the remedy."""


class SpecError(UserError):
    """The spec is not valid."""


class DoesNotFit(UserError):
    """The parts of a run that are certain need more memory than there is."""


class DatasetError(UserError):
    """A dataset cannot be read or does not hold what the algorithm needs."""


class ModelError(UserError):
    """A model folder lacks something that the run needs."""


class JudgeError(UserError):
    """A judge cannot be imported or loaded."""


class OutputError(UserError):
    """The output folder cannot be used for this run."""


class ResumeError(UserError):
    """The run on disk was made from another spec, dataset or model."""


class RunFailed(XpoRayError, RuntimeError):
    """The run stopped; committed work stays and the run may be resumed."""


class TrainingDiverged(RunFailed):
    """A loss or a gradient norm is not finite; what is committed stays."""


class JudgeFailed(RunFailed):
    """Too many prompts could not be judged."""


class NeedsAttention(RunFailed):
    """The run pauses by itself: what is committed stays, and the next attempt goes on from there."""


class NothingLearned(NeedsAttention):
    """Too many windows in a row had no pair to learn from."""


class JudgeUnreachable(NeedsAttention):
    """The judge's endpoint, or actor, has been out of reach for longer than its patience; the run pauses."""


class CanaryMismatch(RunFailed):
    """After a hand-over of weights an engine does not give the trainer's log-probs."""


class LedgerMismatch(RunFailed):
    """A replayed step was fed other pairs than the step it repeats."""


class ActorLost(RunFailed):
    """A role died more often than resources.max_restarts allows."""


class RayNotStarted(RunFailed):
    """Ray's own processes did not come up in time, several times."""


class PlacementFailed(RunFailed):
    """Ray did not place a group of processes in time."""


class DiskFull(RunFailed):
    """A disk has no room; the run goes on from what is committed when there is some."""


class GroupBroken(XpoRayError, RuntimeError):
    """A rank of a trainer group cannot reach the others: one of them is gone, or stands still."""


class CorruptArtifact(XpoRayError):
    """A committed file is missing, truncated or altered."""


class Stopped(XpoRayError):
    """An attempt ends because it was asked to."""


class Paused(Stopped):
    """The attempt ends; the next one goes on from here."""


class Cancelled(Stopped):
    """The run ends here."""


class Superseded(Stopped):
    """Another attempt has the run; this one writes nothing more."""


class ServiceRefused(XpoRayError):
    """The service does not grant an attempt, or does not take a report."""
