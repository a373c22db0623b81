"""Memory of each of two trainer workers while a checkpoint is published, beside what they hold anyway.

    python benchmarks/group_memory.py [--layers 11] [--file-mb 2000] [--part-mb 500]

A random Llama of 207 M parameters in float32 by default, with the moments of AdamW; two processes meet over gloo. Linux only:
the peak of a process is set back before each part by /proc/self/clear_refs.
"""

import argparse
import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from xpo_ray.group.model_writer import ModelWriter
from xpo_ray.group.optimizer_state import save_state
from xpo_ray.group.ranks import Ranks, open_store
from xpo_ray.group.trainer import GroupTrainer
from xpo_ray.spec.data import ModelSpec
from xpo_ray.spec.training import TrainingSpec

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Peak:
    """What one rank took for one part of a checkpoint: bytes held before, at most on top, and seconds."""

    part: str
    rank: int
    before: int
    on_top: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=11)
    parser.add_argument("--file-mb", type=int, default=2000)
    parser.add_argument("--part-mb", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        parameters = new_model(Path(name) / "model", arguments.layers)
        sizes = (arguments.file_mb * 10**6, arguments.part_mb * 10**6)
        peaks = measured(Path(name), *sizes)
    weights = 4 * parameters
    print(
        f"{parameters / 1e6:.0f} M parameters, weights W = {weights / 2**20:.0f} MiB; {sizes[0]:,} and {sizes[1]:,} bytes"
    )
    for peak in sorted(peaks, key=lambda p: (p.part, p.rank)):
        print(
            f"{peak.part}, rank {peak.rank}: held {peak.before / weights:.2f} W, at most {peak.on_top / weights:.2f} W on top "
            f"({peak.on_top / 2**20:.0f} MiB), {peak.seconds:.1f} s"
        )


def new_model(folder: Path, layers: int) -> int:
    """Write a random Llama; returns how many parameters it has."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def measured(folder: Path, file_bytes: int, part_bytes: int) -> list[Peak]:
    """What both ranks took."""
    context = multiprocessing.get_context("spawn")
    store = open_store("127.0.0.1", TIMEOUT_S)
    pipes = [context.Pipe() for _ in range(2)]
    for rank, (_, theirs) in enumerate(pipes):
        arguments = (theirs, store.port, rank, folder, file_bytes, part_bytes)
        context.Process(target=work, args=arguments, daemon=True).start()
    return [peak for ours, _ in pipes for peak in ours.recv()]


def work(end: Connection, port: int, rank: int, folder: Path, file_bytes: int, part_bytes: int) -> None:
    """One rank: load, take the moments of a step, and write both parts of a checkpoint."""
    torch.set_num_threads(1)
    ranks = Ranks.join(("127.0.0.1", port), rank, 2, TIMEOUT_S, torch.device("cpu"))
    trainer = GroupTrainer(TrainingSpec(batch_size=8), ranks, ModelSpec(path=str(folder / "model")))
    for parameter in trainer.trained:
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)
    peaks = []
    for part in ("model", "moments"):
        ranks.all_told(None)
        began, before = time.monotonic(), status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        if part == "model":
            ModelWriter(trainer.model, folder / "made", writes=ranks.first, file_bytes=file_bytes).write()
        else:
            save_state(folder / "trainer", trainer.model, trainer.optimizer, {}, ranks, part_bytes)
        peaks.append(Peak(part, rank, before, status("VmHWM") - before, time.monotonic() - began))
    ranks.all_told(None)
    end.send(peaks)


def status(key: str) -> int:
    """Bytes of this process, by a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    main()
