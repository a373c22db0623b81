"""Real instructions with two answers each, of which people or a strong judge prefer one; read from Parquet files.

The benchmarks call this. It keeps the two files apart: a training pair whose prompt stands in the test file is left out.
The rows stay in the folder they came from or go to a run's own folder, never into the project.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TRAIN, TEST = "alpaca_pairs_train.parquet", "alpaca_pairs_test.parquet"


@dataclass(frozen=True)
class Pair:
    """One row: an instruction and two answers."""

    prompt: str
    prompt_id: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class PairSets:
    """What is trained on and what is held out; no prompt stands in both."""

    train: list[Pair]
    test: list[Pair]
    shared: int
    """Training rows left out because their prompt stands in the test file."""


def missing_files(folder: Path) -> list[Path]:
    """The files that the folder lacks."""
    return [folder / name for name in (TRAIN, TEST) if not (folder / name).is_file()]


def read_pairs(folder: Path) -> PairSets:
    """Both files, made disjoint by prompt."""
    train, test = _read(folder / TRAIN), _read(folder / TEST)
    held_out = {pair.prompt for pair in test}
    kept = [pair for pair in train if pair.prompt not in held_out]
    return PairSets(kept, test, len(train) - len(kept))


def one_per_prompt(pairs: list[Pair], seed: int) -> list[Pair]:
    """One pair of every prompt, in a seeded order, so that prompts are independent of one another."""
    shuffled = random.Random(seed).sample(pairs, len(pairs))
    return list({pair.prompt: pair for pair in shuffled}.values())


def write_pairs(path: Path, pairs: list[Pair]) -> Path:
    """Rows in the form of UltraFeedback-binarized, which a run reads."""
    pq.write_table(pa.Table.from_pylist([_row(pair) for pair in pairs]), path)
    return path


def _read(path: Path) -> list[Pair]:
    return [
        Pair(row["prompt"], row["prompt_id"], row["chosen"][-1]["content"], row["rejected"][-1]["content"])
        for row in pq.read_table(path).to_pylist()
    ]


def _row(pair: Pair) -> dict[str, object]:
    user = {"role": "user", "content": pair.prompt}
    return {
        "prompt": pair.prompt,
        "prompt_id": pair.prompt_id,
        "chosen": [user, {"role": "assistant", "content": pair.chosen}],
        "rejected": [user, {"role": "assistant", "content": pair.rejected}],
    }
