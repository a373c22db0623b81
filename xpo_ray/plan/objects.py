"""How many bytes Ray's object store holds at most at once, from what goes through it: tables of shards between two stages,
draws that are made ahead, held-out tables, and in fully online runs the weights. Upper bounds from the spec's lengths.

Who keeps which reference, and how long, is decided in xpo_ray.actors: scheduler.py (shards), ahead.py (draws of a fixed
reference), evaluator.py (held-out tables), roles.py (weights). Objects below 100 kB do not even go there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xpo_ray.algorithms import Row, rows
from xpo_ray.plan.judging import candidates
from xpo_ray.plan.memory import ModelSize, weights_object_bytes
from xpo_ray.plan.work import IterationWork
from xpo_ray.spec.run import RunSpec

TOKEN = 4 + 8
"""An int32 id, and its text in UTF-8 at up to 8 bytes on average."""
ROW = 1024
"""Ids, roles, judgement, offsets of a row, beside what grows with tokens and candidates."""
CANDIDATE = 128
"""Of a candidate beside its tokens."""
BLOCK_PROMPTS = 256
"""Prompts that a fixed reference draws for at once in a fully online run; a larger batch decodes more tokens per second."""
VERSIONS = 2
"""Of the weights: the one that engines serve, and the one that is handed over."""
EVALUATIONS = 2
"""At a time, each beside the base's and the one before: judging of one may last into the next."""


@dataclass(frozen=True)
class ObjectStore:
    """Bytes at most at once, by what they are; `weights_object` is one version of the weights, 0 where they go by folder."""

    parts: dict[str, int]
    weights_object: int

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())


def object_store(
    spec: RunSpec, size: ModelSize, work: Sequence[IterationWork], held_out: int | None, in_flight: int
) -> ObjectStore:
    """`in_flight`: shards between drawing and training (xpo_ray.plan.processes); `work` is empty where the number of prompts is
    not known, and partitions are then taken for as large as what is in flight."""
    used = rows(spec)
    shard, alive = _shard_rows(spec), _shards_alive(spec, work, in_flight)
    parts = {"shards": alive * shard * max(_under_way(spec, row) for row in used)}
    if spec.training.epochs > 1 or spec.resources.layout == "colocated" or any(r.data == "accumulate" for r in used):
        read = 2 * in_flight + _window_shards(spec)  # committed shards that are read again
        parts["read_again"] = read * shard * max(_scored(spec, row) for row in used)
    if any(row.reference == "fixed" for row in used):
        parts["drawn_ahead"] = _drawn_ahead(spec, work, in_flight, max(_drawn(spec, row, "reference") for row in used))
    if held_out:
        parts["held_out"] = held_out * (_prompt(spec) + EVALUATIONS * 4 * _held_out(spec))
    weights = weights_object_bytes(size) if spec.online else 0
    if weights:
        parts["weights"] = VERSIONS * weights
    return ObjectStore({name: count for name, count in parts.items() if count}, weights)


def _shard_rows(spec: RunSpec) -> int:
    return min(spec.data.shard_size, spec.training.batch_size) if spec.online else spec.data.shard_size


def _window_shards(spec: RunSpec) -> int:
    """Shards that a window can touch."""
    return -(-spec.training.batch_size // _shard_rows(spec)) + (0 if spec.online else 1)


def _shards_alive(spec: RunSpec, work: Sequence[IterationWork], in_flight: int) -> int:
    """Of a window, and those started behind it; not more than an iteration has."""
    alive = in_flight + _window_shards(spec)
    largest = max((w.prompts for w in work), default=0)
    return min(alive, -(-largest // _shard_rows(spec))) if largest else alive


def _drawn_ahead(spec: RunSpec, work: Sequence[IterationWork], in_flight: int, drawn: int) -> int:
    """Draws of a reference that stays what it is: of all of the iteration, or block of iterations, that is under way, and of
    what may be drawn behind it, with the prompts of that."""
    if not drawn:
        return 0
    behind = in_flight * _shard_rows(spec)
    present = max((w.prompts for w in work), default=0)
    if spec.online:
        behind = present = max(BLOCK_PROMPTS // spec.training.batch_size, 1) * spec.training.batch_size
    return (present + behind) * drawn + behind * _prompt(spec)


def _under_way(spec: RunSpec, row: Row) -> int:
    """A row of a shard: its prompt, its draws and both laid together; or all later stages, whose commits run behind."""
    drawing = _prompt(spec) + sum(_drawn(spec, row, s) for s in ("policy", "reference")) + _candidates(spec, row)
    return max(drawing, _candidates(spec, row) + _preferences(spec, row) + _scored(spec, row))


def _prompt(spec: RunSpec) -> int:
    """With the dataset's pair, which it may have."""
    return ROW + TOKEN * (spec.data.max_prompt_tokens + 2 * spec.data.max_response_tokens)


def _drawn(spec: RunSpec, row: Row, source: str) -> int:
    samples = sum(draw.samples for draw in row.draws if draw.source == source)
    return samples * (CANDIDATE + TOKEN * spec.sampling.max_new_tokens)


def _candidates(spec: RunSpec, row: Row) -> int:
    pair = 2 * (CANDIDATE + TOKEN * spec.data.max_response_tokens) if row.dataset_candidates or not row.judged else 0
    drawn = sum(_drawn(spec, row, source) for source in ("policy", "reference"))
    return ROW + TOKEN * spec.data.max_prompt_tokens + drawn + pair


def _preferences(spec: RunSpec, row: Row) -> int:
    """Scores of K candidates, and K² win probabilities."""
    k = max(candidates(row), 2)
    return _candidates(spec, row) + 8 * (k + k * k)


def _scored(spec: RunSpec, row: Row) -> int:
    return _preferences(spec, row) + 8 * max(candidates(row), 2)


def _held_out(spec: RunSpec) -> int:
    new = spec.evaluation.max_new_tokens or spec.sampling.max_new_tokens
    return ROW + TOKEN * (spec.data.max_prompt_tokens + new)
