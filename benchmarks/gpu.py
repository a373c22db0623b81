"""A random Llama of 1.2 B parameters on one GPU: tokens drawn and trained per second, peak memory, model FLOP utilisation.

    python benchmarks/gpu.py [--size large|tiny] [--device cuda|cpu] [--laps 3] [--only draw|train] [--json FILE]

Sides take turns (A B A B); the table shows the median lap and all laps. Drawn: prompts of 512 tokens, 256 new tokens each,
sampled with a seed, bfloat16, by the transformers engine and, where it is installed, vLLM. Trained: whole optimizer steps on
windows of 32 prompts, bfloat16 over float32 master weights; SELM's have three responses behind a prompt, DPO's two. `plain`
repeats the prompt before each response. Without a GPU `--size tiny --device cpu` shows that it runs; its figures say nothing.
"""

import argparse
import gc
import json
import math
import multiprocessing
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import transformers
from gpu_work import PEAKS, SHAPES, Shape
from transformers import LlamaConfig, LlamaForCausalLM

from xpo_ray.algorithms import Row
from xpo_ray.devices import computing_on, emptied, own_device
from xpo_ray.generation.engine import Engine, Sampling
from xpo_ray.generation.installed import vllm_fault
from xpo_ray.logprobs import plain
from xpo_ray.schedule import Slice, Window
from xpo_ray.shards import SCORED
from xpo_ray.spec.algorithm import DpoObjective
from xpo_ray.spec.training import TrainingSpec
from xpo_ray.steps import StepOrder
from xpo_ray.training import Trainer

END = (0,)
STEPS = 2
"""Timed steps of a lap, behind one that is not."""
Rates = dict[str, list[float]]


@dataclass(frozen=True)
class Training:
    """One way to train: `responses` behind each prompt, 3 for SELM and 2 for DPO."""

    responses: int
    path: str
    checkpointing: bool

    @property
    def name(self) -> str:
        again = ", layers computed again" if self.checkpointing else ""
        return f"{'SELM' if self.responses == 3 else 'DPO'}, {self.path}{again}"


TRAININGS = tuple(
    Training(n, path, again) for path, again in (("shared", False), ("shared", True), ("plain", False)) for n in (3, 2)
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="large")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--laps", type=int, default=3)
    parser.add_argument("--only", choices=("draw", "train"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here: nothing was measured; --size tiny --device cpu shows that this runs")
    shape = SHAPES[arguments.size]
    found: dict[str, Any] = {"device": device_name(arguments.device), "versions": versions(), "size": arguments.size}
    print(f"{found['device']}; {found['versions']}; {arguments.size}", flush=True)
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder, computing_on(arguments.device):
        save_model(shape, folder)
        if arguments.only != "train":
            found["drawn"] = drawn(shape, folder, arguments.device, arguments.laps)
            show_drawn(found["drawn"])
        if arguments.only != "draw":
            found["trained"] = trained(shape, folder, arguments.laps)
            show_trained(shape, found["trained"], PEAKS.get(found["device"]))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


def device_name(device: str) -> str:
    """As PEAKS has it."""
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU ({platform.machine()})"


def versions() -> str:
    return f"torch {torch.__version__}, transformers {transformers.__version__}"


def save_model(shape: Shape, folder: str) -> None:
    """Untrained weights in bfloat16, made where they are computed with."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        max_position_embeddings=max(2048, shape.prompt + shape.response),
        bos_token_id=None,
        eos_token_id=END[0],
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    with torch.device(own_device()):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    free()


def random_ids(seed: int, n: int, vocabulary: int) -> list[int]:
    """Tokens, none of which ends a row."""
    generator = torch.Generator().manual_seed(seed)
    drawn: list[int] = torch.randint(1, vocabulary, (n,), generator=generator).tolist()
    return drawn


def free() -> None:
    """Leave nothing of one side for the next one's memory."""
    gc.collect()
    emptied(own_device())


def drawn(shape: Shape, folder: str, device: str, laps: int) -> Rates:
    """Tokens per second of each engine, in a process of its own, lap by lap."""
    fault = vllm_fault()
    if fault is not None:
        print(f"without vLLM: {fault}", flush=True)
    names = ("transformers",) if fault is not None else ("transformers", "vllm")
    rates: Rates = {name: [] for name in names}
    with ExitStack() as stack:
        engines = {name: stack.enter_context(engine_process(name, shape, folder, device)) for name in names}
        for lap in range(laps + 1):
            for name, process in engines.items():
                rate = process.submit(draw_once, shape, lap).result()
                if lap > 0:  # the one before makes kernels and caches
                    rates[name].append(rate)
    return rates


def engine_process(name: str, shape: Shape, folder: str, device: str) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), make_engine, (name, shape, folder, torch.device(device))
    )


_engine: list[Engine] = []


def make_engine(name: str, shape: Shape, folder: str, device: torch.device) -> None:
    """The engine of this process."""
    if name == "vllm":
        from xpo_ray.generation.vllm import VllmEngine, VllmSettings

        length = shape.prompt + shape.response
        keys = 2 * 2 * shape.layers * shape.key_heads * shape.head_size * shape.rows * length
        settings = VllmSettings("bfloat16", length, max(2 * keys, 2**30), gpu=device.type == "cuda")
        _engine.append(VllmEngine(folder, settings, END))
        return
    from xpo_ray.checkpoints import load_model
    from xpo_ray.generation.transformers import TransformersEngine

    _engine.append(TransformersEngine(load_model(folder, "bfloat16").to(device), END))


def draw_once(shape: Shape, seed: int) -> float:
    """Tokens per second of one draw of all rows; none of them ends early, and none of the prompts was there before."""
    sampling = Sampling(1.0, 1.0, None, shape.response, min_new_tokens=shape.response)
    seeds = [seed * 1_000_000 + i for i in range(shape.rows)]
    prompts = [random_ids(s, shape.prompt, shape.vocabulary) for s in seeds]
    began = time.monotonic()
    made = _engine[0].draw(prompts, seeds, sampling)
    seconds = time.monotonic() - began
    assert all(len(one.ids) == shape.response for one in made)
    return shape.rows * shape.response / seconds


def trained(shape: Shape, folder: str, laps: int) -> dict[str, dict[str, Any]]:
    """Seconds of each step, tokens per window and peak memory, by the way to train; trainers are made anew for each lap."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(laps):
        for training in TRAININGS:
            seconds, peak = train_once(shape, folder, training)
            of = found.setdefault(training.name, {"seconds": [], "responses": training.responses})
            of["seconds"].append(seconds)
            of["peak_bytes"] = peak
    return found


def train_once(shape: Shape, folder: str, training: Training) -> tuple[float, int | None]:
    """Median seconds of a step, and the most memory that tensors had at a time; None on a CPU, which does not tell."""
    gpu = own_device().type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    spec = TrainingSpec(
        batch_size=shape.batch,
        micro_batch_tokens=shape.micro_batch_tokens,
        activation_checkpointing=training.checkpointing,
    )
    one = Trainer(spec, folder, "bfloat16", log_probs=plain if training.path == "plain" else None)
    if training.path == "shared" and one.path.reason is not None:
        raise SystemExit(f"the shared path is not taken: {one.path.reason}")
    window = scored_window(shape, training.responses)
    times = [one.step(order(k, shape.batch, training.responses), [window]).seconds for k in range(1, STEPS + 2)]
    peak = torch.cuda.max_memory_allocated() if gpu else None
    del one
    free()
    return statistics.median(times[1:]), peak


def order(step: int, batch: int, responses: int) -> StepOrder:
    """SELM's step has a bonus on the third response."""
    row = Row(
        draws=(),
        dataset_candidates=True,
        pairing="best_worst",
        ties="mask",
        reference="previous",
        data="fresh",
        beta=0.01,
        objective=DpoObjective(),
        comparator="reference_draw" if responses == 3 else "none",
        kappa=1e-5 if responses == 3 else 0.0,
        optimizer="reset",
        schedule_span="iteration",
    )
    return StepOrder(Window(1, step, 1, (Slice(1, 0, tuple(range(batch))),)), step, 1e-7, row.kappa, row)


def scored_window(shape: Shape, responses: int) -> pa.Table:
    """Random prompts and responses: two that are compared, and behind them a draw that carries the bonus."""
    origins = ("chosen", "rejected", "reference")[:responses]
    logp = -shape.response * math.log(shape.vocabulary)

    def candidate(origin: str, seed: int) -> dict[str, Any]:
        ids = random_ids(seed, shape.response, shape.vocabulary)
        return {"origin": origin, "sample": 0, "version": 0, "text": "", "ids": ids, "ended": False}

    preference = {
        "outcome": "pair",
        "chosen": 0,
        "rejected": 1,
        "comparators": [2][: responses - 2],
        "label": 1.0,
        "weight": 1.0,
        "wins_chosen": None,
        "wins_rejected": None,
        "reason": None,
    }
    judgement = {"status": "judged", "scores": None, "wins": None, "judge": "nobody", "reason": None, "tries": 1}
    rows = [
        {
            "row": i,
            "prompt_id": str(i),
            "prompt": [{"role": "user", "content": ""}],
            "prompt_ids": random_ids(100 * i, shape.prompt, shape.vocabulary),
            "candidates": [candidate(origin, 100 * i + k) for k, origin in enumerate(origins, 1)],
            "judgement": judgement,
            "preference": preference,
            "reference_logps": [logp] * responses,
        }
        for i in range(shape.batch)
    ]
    return pa.Table.from_pylist(rows, schema=SCORED)


def show_drawn(rates: Rates) -> None:
    for name, each in rates.items():
        print(f"drawn by {name:13s} {statistics.median(each):10,.0f} tokens/s ({listed(each)})", flush=True)


def show_trained(shape: Shape, found: dict[str, dict[str, Any]], peak: float | None) -> None:
    """Tokens of a window are counted with each prompt once, on both paths, so that their rates compare."""
    for name, of in found.items():
        tokens = [shape.trained_tokens(of["responses"]) / s for s in of["seconds"]]
        speed = shape.operations(of["responses"]) / statistics.median(of["seconds"])
        used = f"{speed / 1e12:7.3f} TFLOP/s"
        used += "" if peak is None else f", MFU {100 * speed / peak:.1f} %"
        memory = "" if of["peak_bytes"] is None else f", peak {of['peak_bytes'] / 2**30:.1f} GiB"
        median = statistics.median(tokens)
        print(f"trained {name:38s} {median:10,.0f} tokens/s ({listed(tokens)}), {used}{memory}", flush=True)
    if peak is None:
        print("without MFU: this device's peak is not in gpu_work.PEAKS", flush=True)


def listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:,.0f}" for value in values)


if __name__ == "__main__":
    main()
