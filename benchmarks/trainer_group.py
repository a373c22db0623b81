"""Tokens per second of one and of two trainer workers on the same cores, and their losses side by side.

    python benchmarks/trainer_group.py [--steps 6] [--prompts 32] [--rounds 2]

A Llama of 3.7 M parameters with untrained weights trains on random windows: prompts of 24 to 72 tokens, behind each a pair
and a comparator of 16 to 64. One worker has all cores, two have half of them each and meet over gloo. They take turns in
processes of their own; the first step, in which memory is found, is not timed.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from xpo_ray.algorithms import Row
from xpo_ray.checkpoints import load_model
from xpo_ray.logprobs import shared
from xpo_ray.logprobs.shared import use_packed_attention
from xpo_ray.schedule import Slice, Window
from xpo_ray.scoring import score_references
from xpo_ray.shards import PREFERENCES
from xpo_ray.spec.algorithm import DpoObjective
from xpo_ray.spec.data import ModelSpec
from xpo_ray.spec.training import TrainingSpec
from xpo_ray.steps import StepOrder

VOCABULARY, KAPPA = 1024, 1e-3
ROW = Row(
    draws=(),
    dataset_candidates=True,
    pairing="best_worst",
    ties="mask",
    reference="previous",
    data="fresh",
    beta=0.1,
    objective=DpoObjective(),
    comparator="reference_draw",
    kappa=KAPPA,
    optimizer="reset",
    schedule_span="iteration",
)


@dataclass(frozen=True)
class Lap:
    """What one worker, or the first of a group, saw."""

    losses: list[float]
    seconds: list[float]
    held: int
    """Bytes of weights and optimizer in this process."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = new_model(Path(name) / "model")
        tables = [window(folder, arguments.prompts, seed) for seed in range(arguments.steps)]
        turns = [(lap(folder, tables, 1), lap(folder, tables, 2)) for _ in range(arguments.rounds)]
    laps = dict(enumerate(zip(*turns, strict=True), 1))
    tokens = [tokens_of(table) for table in tables]
    print(f"{'workers':>8s} {'tokens/s':>9s} {'of each lap':>18s} {'weights and optimizer each':>27s}")
    for workers, driven in laps.items():
        rates = [sum(tokens[1:]) / sum(one.seconds[1:]) for one in driven]
        each = ", ".join(f"{rate:,.0f}" for rate in rates)
        held = f"{driven[0].held / 2**20:.1f} MiB"
        print(f"{workers:8d} {statistics.median(rates):9,.0f} {each:>18s} {held:>27s}")
    print(f"\n{'step':>4s} {'loss, 1 worker':>16s} {'2 workers':>16s} {'relative difference':>20s}")
    for step, (one, two) in enumerate(zip(laps[1][0].losses, laps[2][0].losses, strict=True), 1):
        print(f"{step:4d} {one:16.9f} {two:16.9f} {abs(two - one) / abs(one):20.1e}")


def new_model(folder: Path) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def window(folder: Path, prompts: int, seed: int) -> pa.Table:
    """A SCORED shard of random ids, whose reference is the untrained model."""
    generator = torch.Generator().manual_seed(seed)

    def ids(least: int, most: int) -> list[int]:
        length = int(torch.randint(least, most + 1, (1,), generator=generator))
        drawn: list[int] = torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()
        return drawn

    rows = [_row(seed * prompts + i, ids(24, 72), [ids(16, 64) for _ in range(3)]) for i in range(prompts)]
    model = load_model(folder, "float32")
    use_packed_attention(model)
    table = pa.Table.from_pylist(rows, schema=PREFERENCES)
    return score_references(table, model, shared, dtype="float32", micro_batch_tokens=2048)


def _row(row: int, prompt: list[int], responses: list[list[int]]) -> dict[str, Any]:
    origins = ("reference", "chosen", "rejected")
    candidates = [
        {"origin": o, "sample": 0, "version": 0 if o == "reference" else -1, "text": "", "ids": ids, "ended": True}
        for o, ids in zip(origins, responses, strict=True)
    ]
    preference = {"outcome": "pair", "chosen": 1, "rejected": 2, "comparators": [0], "label": 1.0, "weight": 1.0}
    unknown = {"wins_chosen": None, "wins_rejected": None, "reason": None}
    judgement = {"status": "judged", "scores": None, "wins": None, "judge": "none", "reason": None, "tries": 1}
    head = {"row": row, "prompt_id": str(row), "prompt": [], "prompt_ids": prompt}
    return head | {"candidates": candidates, "judgement": judgement, "preference": preference | unknown}


def tokens_of(table: pa.Table) -> int:
    """Tokens of a window, each prompt once."""
    rows = table.to_pylist()
    return sum(len(row["prompt_ids"]) + sum(len(c["ids"]) for c in row["candidates"]) for row in rows)


def lap(folder: Path, tables: Sequence[pa.Table], workers: int) -> Lap:
    """All steps by so many workers, in new processes."""
    from xpo_ray.group.ranks import open_store

    context = multiprocessing.get_context("spawn")
    store = open_store("127.0.0.1", 300.0)
    ours, theirs = context.Pipe()
    threads = max((os.cpu_count() or 1) // workers, 1)
    processes = [
        context.Process(target=work, args=(theirs, store.port, rank, workers, threads, folder, tables), daemon=True)
        for rank in range(workers)
    ]
    for process in processes:
        process.start()
    first: Lap = ours.recv()
    for process in processes:
        process.join()
    return first


def work(
    pipe: Connection, port: int, rank: int, workers: int, threads: int, folder: Path, tables: Sequence[pa.Table]
) -> None:
    """One worker; the first one tells what it saw."""
    torch.set_num_threads(threads)
    trainer = new_trainer(port, rank, workers, folder)
    done = [trainer.step(order(table, step), [table]) for step, table in enumerate(tables, 1)]
    if rank == 0:
        pipe.send(Lap([d.metrics["loss"] for d in done], [d.seconds for d in done], held_bytes(trainer)))


def new_trainer(port: int, rank: int, workers: int, folder: Path) -> Any:
    from xpo_ray.group.ranks import Ranks
    from xpo_ray.group.trainer import GroupTrainer
    from xpo_ray.training import Trainer

    spec, origin = TrainingSpec(), ModelSpec(path=str(folder))
    if workers == 1:
        return Trainer(spec, str(folder), "float32", origin=origin)
    return GroupTrainer(spec, Ranks.join(("127.0.0.1", port), rank, workers, 300.0, torch.device("cpu")), origin)


def order(table: pa.Table, step: int) -> StepOrder:
    window = Window(1, step, 1, (Slice(1, 0, tuple(range(table.num_rows))),))
    return StepOrder(window, step, 1e-4, KAPPA, ROW)


def held_bytes(trainer: Any) -> int:
    """Weights and optimizer state in this process."""
    states = [v for state in trainer.optimizer.state.values() for v in state.values()]
    tensors = [*trainer.model.parameters(), *states]
    local = [t.to_local() if hasattr(t, "to_local") else t for t in tensors]
    return sum(t.numel() * t.element_size() for t in local)


if __name__ == "__main__":
    main()
