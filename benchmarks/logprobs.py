"""Log-probs with shared prefixes against plain ones: time of forward and backward, and peak memory.

    python benchmarks/logprobs.py [--rounds 5] [--json FILE]

Times are medians over rounds in which both paths take turns (A B A B). Memory is what a process grows by over its size
before the pass, each path in a fresh one. `full logits` is what most trainers do: each (prompt, response) a row of
its own, logits of all positions at once.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from xpo_ray.logprobs import PromptGroup, choose, plain, shared

Path_ = Callable[[LlamaForCausalLM, list[PromptGroup]], Tensor]


@dataclass(frozen=True)
class Case:
    """Lengths in tokens; `prompts` prompts with `responses` each."""

    prompt: int
    response: int
    responses: int
    prompts: int
    vocabulary: int = 1024


TIMED = tuple(Case(p, t, r, n) for (p, t, n) in ((64, 64, 32), (128, 64, 32), (512, 256, 4)) for r in (2, 3))
HEAD = "prompt response number vocabulary | forward s  plain shared ratio | with backward s  plain shared ratio | MiB"
WIDE = Case(128, 64, 2, 4, vocabulary=128_256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(HEAD, flush=True)
    rows = []
    with fresh_processes() as processes:
        for case in (*TIMED, WIDE):
            rows.append(measured(case, arguments.rounds, processes))
            print(_line(rows[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


def fresh_processes() -> Executor:
    """Runs each call in a new process that has the imports already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "xpo_ray.logprobs"])
    return ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1)


def measured(case: Case, rounds: int, processes: Executor) -> dict[str, object]:
    """Medians of both paths, and the memory of all three."""
    model, groups = made(case)
    times: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        for name in ("plain", "shared"):
            for kind, call in (("forward", forward), ("backward", backward)):
                started = time.perf_counter()
                call(name, model, groups)
                times.setdefault(f"{name} {kind}", []).append(time.perf_counter() - started)
    out: dict[str, object] = asdict(case) | {name: median(values[1:]) for name, values in times.items()}
    return out | {f"{name} MiB": processes.submit(growth, name, case).result() for name in PATHS}


def made(case: Case) -> tuple[LlamaForCausalLM, list[PromptGroup]]:
    """A Llama of 3.7 M parameters at a vocabulary of 1,024, and random tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=case.vocabulary,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=2048,
    )
    model = LlamaForCausalLM(config).eval()
    choose(model)

    def ids(n: int) -> list[int]:
        drawn: list[int] = torch.randint(0, case.vocabulary, (n,)).tolist()
        return drawn

    def group() -> PromptGroup:
        return PromptGroup(ids(case.prompt), tuple(ids(case.response) for _ in range(case.responses)))

    return model, [group() for _ in range(case.prompts)]


def full_logits(model: LlamaForCausalLM, groups: list[PromptGroup]) -> Tensor:
    """Rows of equal length, logits of every position."""
    rows = torch.tensor([[*g.prompt_ids, *r] for g in groups for r in g.responses])
    logp = model(input_ids=rows, use_cache=False).logits[:, :-1].float().log_softmax(-1)
    taken = logp.gather(-1, rows[:, 1:, None]).squeeze(-1)
    return taken[:, len(groups[0].prompt_ids) - 1 :].sum(-1)


PATHS: dict[str, Path_] = {
    "full logits": full_logits,
    "plain": lambda m, g: plain(m, g).logp_S,
    "shared": lambda m, g: shared(m, g).logp_S,
}


def forward(name: str, model: LlamaForCausalLM, groups: list[PromptGroup]) -> None:
    with torch.no_grad():
        PATHS[name](model, groups)


def backward(name: str, model: LlamaForCausalLM, groups: list[PromptGroup]) -> None:
    torch.autograd.backward(PATHS[name](model, groups).sum())
    model.zero_grad(set_to_none=True)


def growth(name: str, case: Case) -> float:
    """MiB that a forward and backward pass needs at its peak, gradients included, over the size after one on a few tokens."""
    model, groups = made(case)
    backward(name, model, [PromptGroup(g.prompt_ids[:2], tuple(r[:2] for r in g.responses)) for g in groups[:1]])
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024
    backward(name, model, groups)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def _line(row: dict[str, object]) -> str:
    def ratio(kind: str) -> str:
        a, b = float(str(row[f"plain {kind}"])), float(str(row[f"shared {kind}"]))
        return f"{a:6.3f} {b:6.3f} {a / b:5.2f}"

    memory = ", ".join(f"{name} {float(str(row[f'{name} MiB'])):.0f}" for name in PATHS)
    sizes = f"{row['prompt']:6} {row['response']:8} {row['responses']:6} {row['vocabulary']:10}"
    return f"{sizes} | {ratio('forward')} | {ratio('backward')} | {memory}"


if __name__ == "__main__":
    main()
