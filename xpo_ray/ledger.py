"""The ledger (DESIGN §4.9): one row per optimizer step, with the hash of the pairs it saw.

Rows since the last checkpoint travel into the next one, so that a lineage of checkpoints lists each of its steps once. A step
that is done again after a death must see the same pairs; the driver checks that here.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from xpo_ray.errors import LedgerMismatch
from xpo_ray.full_disk import told
from xpo_ray.reporting import read_lines


@dataclass
class Ledger:
    """Rows of one attempt, and the hashes that earlier tries saw."""

    path: Path
    seen: dict[tuple[int, int], str] = field(default_factory=dict)
    since_checkpoint: list[tuple[int, int, str]] = field(default_factory=list)
    replayed: int = 0

    @classmethod
    def open(cls, root: Path, attempt_folder: Path) -> "Ledger":
        """The ledger of an attempt, with what earlier attempts of the run wrote."""
        ledger = cls(attempt_folder / "ledger.jsonl")
        for path in sorted((root / "attempts").glob("*/ledger.jsonl")):
            for row in read_lines(path):
                ledger.seen[row["iteration"], row["step"]] = row["pairs"]
        return ledger

    def enter(self, iteration: int, step: int, pairs: str, parent: str | None, *, skipped: bool = False) -> bool:
        """Write a step down, a `skipped` one too, which changed no weight; says whether it had been done before. Raises
        LedgerMismatch where the pairs differ."""
        before = self.seen.get((iteration, step))
        if before is not None and before != pairs:
            raise LedgerMismatch(
                f"step {step} of iteration {iteration} was done before on pairs {before[:12]}, now on {pairs[:12]}: "
                "committed shards do not give the same windows; the run cannot go on"
            )
        row = {
            "iteration": iteration,
            "step": step,
            "pairs": pairs,
            "parent": parent,
            "replay": before is not None,
            "skipped": skipped,
        }
        with told(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.seen[iteration, step] = pairs
        self.since_checkpoint.append((iteration, step, pairs))
        self.replayed += before is not None
        return before is not None

    def cut(self) -> tuple[tuple[int, int, str], ...]:
        """The rows for a checkpoint that is being published; later rows belong to the next.

        What was seen before the first of them is forgotten: no step before the last published checkpoint is done again.
        """
        rows, self.since_checkpoint = tuple(self.since_checkpoint), []
        if rows:
            self.seen = {step: pairs for step, pairs in self.seen.items() if step >= rows[0][:2]}
        return rows


def pairs_hash(tables: list[pa.Table]) -> str:
    """sha256 over what a step trains on: rows, token ids, choice, labels, weights. Not over floats that a machine rounds."""
    sha = hashlib.sha256()
    for table in tables:
        for row in table.select(["row", "candidates", "preference"]).to_pylist():
            ids = [c["ids"] for c in row["candidates"]]
            p = row["preference"]
            chosen = [p["outcome"], p["chosen"], p["rejected"], p["comparators"], p["label"], p["weight"]]
            sha.update(json.dumps([row["row"], ids, chosen]).encode())
    return sha.hexdigest()
