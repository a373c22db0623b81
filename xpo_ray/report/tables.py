"""The committed tables of a run, read a few columns at a time: scores of training prompts, and held-out evaluations.

However long the run, a bounded number of prompts per iteration is read, in evenly spaced shards; what was read is said.
Bytes are not checked against their sha256 here: that is for those who train on them.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xpo_ray.errors import CorruptArtifact
from xpo_ray.evaluation.table import held_out_key
from xpo_ray.report.series import Floats, spread
from xpo_ray.storage import LocalStorage

MAX_PROMPTS = 10_000
TRAINING_COLUMNS = [
    "judgement.scores",
    "preference.reason",
    "candidates.list.element.origin",
    "candidates.list.element.ids.list.element",
]
HELD_OUT_COLUMNS = ["row", "score", "logp", "base_logp", "chosen_logp", "rejected_logp"]
_TRAINING = re.compile(r"iteration-(\d+)/preferences/shard-\d+$")
_HELD_OUT = re.compile(r"evaluation-(\w+)/iteration-(\d+)/judged/shard-(\d+)$")
_ATTEMPT = re.compile(r"attempts/(\d+)/")


@dataclass
class TrainingScores:
    """What the judge said about the candidates of an iteration's prompts; `read` of `prompts` were looked at."""

    prompts: int
    read: int = 0
    tokens: int = 0
    """Of all candidates of the prompts read."""
    scores: dict[str, Floats] = field(default_factory=dict)
    """By origin: policy, reference, chosen, rejected."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why prompts were dropped or masked."""


@dataclass(frozen=True)
class HeldOut:
    """An evaluation's columns, in the order of the held-out prompts."""

    iteration: int
    columns: dict[str, Floats]

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]


class CommittedTables:
    """What an attempt sees of the tables that were committed."""

    def __init__(self, root: Path, commits: list[dict[str, Any]]) -> None:
        self.root = root
        self._training: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self._evaluations: dict[str, dict[int, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
        for commit in commits:
            if match := _TRAINING.match(commit["key"]):
                self._training[int(match[1])].append(commit)
            elif match := _HELD_OUT.match(commit["key"]):
                self._evaluations[match[1]][int(match[2])][int(match[3])] = commit
        self._scores = cache(self._read_scores)
        self._held_out = cache(self._read_held_out)

    @classmethod
    def of(cls, root: Path) -> "CommittedTables":
        """The tables that the last attempt with an adoption list sees."""
        lists = sorted((root / "attempts").glob("*/adopted.json"))
        return cls(root, LocalStorage(root, int(lists[-1].parent.name)).visible()["commits"] if lists else [])

    @property
    def training_iterations(self) -> list[int]:
        return sorted(self._training)

    @property
    def evaluated_iterations(self) -> list[int]:
        return sorted(self._shards_of_evaluations)

    @property
    def held_out_id(self) -> str:
        """The evaluation that the latest attempt made; one that was made in another way is not mixed with it."""
        return max(self._evaluations, key=self._latest, default="")

    def scores(self, iteration: int) -> TrainingScores:
        """Judge's scores of an iteration's candidates."""
        return self._scores(iteration)

    def held_out(self, iteration: int) -> HeldOut:
        """An evaluation; of long ones the first prompts, the same in every iteration."""
        return self._held_out(iteration)

    def responses(self, iteration: int, limit: int) -> list[dict[str, Any]]:
        """The first held-out prompts with their responses."""
        columns = ["row", "prompt", "response", "ids", "ended", "score"]
        rows: list[dict[str, Any]] = []
        for commit in self._shards(iteration):
            if len(rows) >= limit:
                break
            rows += self._read(commit, columns).to_pylist()
        return rows[:limit]

    @property
    def _shards_of_evaluations(self) -> dict[int, dict[int, dict[str, Any]]]:
        return self._evaluations[self.held_out_id] if self._evaluations else {}

    def _latest(self, held_out_id: str) -> tuple[int, int]:
        paths = [c["path"] for shards in self._evaluations[held_out_id].values() for c in shards.values()]
        return max(int(match[1]) for p in paths if (match := _ATTEMPT.search(p))), len(paths)

    def _shards(self, iteration: int) -> Iterator[dict[str, Any]]:
        """Held-out shards of an iteration in order, up to the first that is not committed yet."""
        shards = self._shards_of_evaluations.get(iteration, {})
        for number in range(len(shards)):
            if number not in shards:
                return
            assert shards[number]["key"] == held_out_key(self.held_out_id, "judged", iteration, number)
            yield shards[number]

    def _read_scores(self, iteration: int) -> TrainingScores:
        commits = sorted(self._training[iteration], key=lambda c: str(c["key"]))
        found = TrainingScores(sum(c["rows"] for c in commits))
        shards = max(1, MAX_PROMPTS * len(commits) // max(found.prompts, 1))
        by_origin: dict[str, list[Floats]] = defaultdict(list)
        for commit in spread(commits, shards):
            table = self._read(commit, TRAINING_COLUMNS)
            found.read += table.num_rows
            _gather(table, found, by_origin)
        found.scores = {origin: np.concatenate(parts) for origin, parts in by_origin.items()}
        return found

    def _read_held_out(self, iteration: int) -> HeldOut:
        parts: list[pa.Table] = []
        for commit in self._shards(iteration):
            if sum(p.num_rows for p in parts) >= MAX_PROMPTS:
                break
            parts.append(self._read(commit, HELD_OUT_COLUMNS))
        whole = pa.concat_tables(parts)
        return HeldOut(iteration, {name: _floats(whole[name]) for name in HELD_OUT_COLUMNS})

    def _read(self, commit: dict[str, Any], columns: list[str]) -> pa.Table:
        path = self.root / commit["path"]
        try:
            return pq.ParquetFile(path).read(columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise CorruptArtifact(f"{path}: a committed table cannot be read: {error}") from error


def _gather(table: pa.Table, found: TrainingScores, by_origin: dict[str, list[Floats]]) -> None:
    """Add a shard's scores by origin, its tokens, and the reasons for what is not trained on."""
    judgements, candidates = table["judgement"].combine_chunks(), table["candidates"].combine_chunks()
    responses = candidates.flatten()
    found.tokens += len(responses.field("ids").flatten())
    scores = judgements.field("scores")
    judged = scores.is_valid()
    origins = np.array(candidates.filter(judged).flatten().field("origin").to_pylist(), dtype=object)
    values = _floats(scores.filter(judged).flatten())
    for origin in dict.fromkeys(origins.tolist()):
        by_origin[origin].append(values[origins == origin])
    reasons = table["preference"].combine_chunks().field("reason").to_pylist()
    found.reasons.update(r for r in reasons if r)


def _floats(column: pa.Array | pa.ChunkedArray) -> Floats:
    """A column as numbers, null as NaN."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
