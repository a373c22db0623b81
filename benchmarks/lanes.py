"""How many lanes a trainer on a CPU has: seconds of one window's forward and backward pass, in turns (A B A B).

`one lane` lets operators share all cores, `lanes` gives each core its own examples (xpo_ray.lanes), `plain` is transformers
alone: padded rows of prompt and response, all logits, cross-entropy. Three random Llamas, and the real model of the demo where
it has been fetched. Prints medians and ratios, and what the rule takes.
"""

import argparse
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from xpo_ray.checkpoints import load_model
from xpo_ray.lanes import Lanes
from xpo_ray.linear import through_onednn
from xpo_ray.logprobs import PromptGroup, choose, micro_batches, shared

CPU = torch.device("cpu")
SHAPES = {"4M": (256, 4, 4, 2_048), "25M": (512, 6, 8, 8_192), "60M": (640, 10, 10, 16_384)}
"""Hidden size, layers, heads, vocabulary."""
ANSWERS, MICRO_BATCH, ROWS = 3, 2048, 4


def llama(hidden: int, layers: int, heads: int, vocabulary: int) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 16 * 16,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def window(vocabulary: int, prompts: int, prompt: int, answer: int) -> list[PromptGroup]:
    """Lengths between half and one and a half of those given."""
    rng = random.Random(0)

    def text(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(vocabulary) for _ in range(rng.randint(length // 2, length * 3 // 2)))

    return [PromptGroup(text(prompt), tuple(text(answer) for _ in range(ANSWERS))) for _ in range(prompts)]


def by_lanes(model: Any, groups: Sequence[PromptGroup], lanes: Lanes) -> None:
    shares = lanes.shares([shared.tokens([g]) for g in groups])
    torch.set_num_threads(torch.get_num_threads() if len(shares) == 1 else 1)

    def losses(share: list[int]) -> Iterator[tuple[Tensor, None]]:
        own = [groups[i] for i in share]
        for batch in micro_batches(own, MICRO_BATCH // len(shares), shared):
            yield -shared(model, [own[i] for i in batch], entropy=True).logp_S.sum() / 1000, None

    lanes.backward(list(model.parameters()), shares, losses)


def by_transformers(model: Any, groups: Sequence[PromptGroup]) -> None:
    rows = sorted(([*g.prompt_ids, *r] for g in groups for r in g.responses), key=len)
    for begin in range(0, len(rows), ROWS):
        batch = rows[begin : begin + ROWS]
        width = max(map(len, batch))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()


def seconds(model: Any, cores: int, pass_: Callable[[], None]) -> float:
    torch.set_num_threads(cores)
    model.zero_grad()
    began = time.perf_counter()
    pass_()
    return time.perf_counter() - began


def laps(name: str, model: Any, groups: Sequence[PromptGroup], rounds: int, cores: int) -> None:
    through_onednn(model, frozen=False)
    weights = sum(p.numel() for p in model.parameters())
    assert choose(model).log_probs is shared
    one, several = Lanes(CPU, 1), Lanes(CPU, cores)
    ways: dict[str, Callable[[], None]] = {
        "lanes": lambda: by_lanes(model, groups, several),
        "one lane": lambda: by_lanes(model, groups, one),
        "plain": lambda: by_transformers(model, groups),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, pass_ in ways.items():
            times[way].append(seconds(model, cores, pass_))
    found = {way: statistics.median(each) for way, each in times.items()}
    tokens = shared.tokens(groups)
    print(f"{name}: {weights / 1e6:.1f} M weights, {tokens} tokens; the rule takes {Lanes(CPU, cores, weights).most}")
    for way, each in times.items():
        every = ", ".join(f"{s:.2f}" for s in each)
        print(f"  {way:9} {found[way]:6.2f} s ({every}), {tokens / found[way]:6.0f} tokens/s")
    print(f"  one lane / lanes {found['one lane'] / found['lanes']:.2f}", end="")
    print(f", plain / better {found['plain'] / min(found['lanes'], found['one lane']):.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--model", type=Path, help="a model folder to try as well")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument(
        "--tokens", type=int, nargs=2, default=(64, 128), help="of a prompt and of an answer, on the mean"
    )
    options = parser.parse_args()
    cores = torch.get_num_threads()
    print(f"{platform.processor() or platform.machine()}, {cores} cores, torch {torch.__version__}")
    for size in options.sizes:
        vocabulary = SHAPES[size][-1]
        laps(size, llama(*SHAPES[size]), window(vocabulary, options.prompts, *options.tokens), options.rounds, cores)
    if options.model is not None:
        model = load_model(options.model, "float32")
        groups = window(model.config.vocab_size, options.prompts, *options.tokens)
        laps(options.model.name, model, groups, options.rounds, cores)


if __name__ == "__main__":
    main()
