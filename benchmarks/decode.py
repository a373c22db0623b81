"""Tokens per CPU second of the transformers engine on one thread, beside those of transformers' own generate.

    python benchmarks/decode.py [--repeats 3] [--only PREFIX]

A Llama of 3.7 M parameters with untrained weights, so that it draws nearly uniformly; a thirty-second of the vocabulary
ends a row where rows are to end at different times. The two sides take turns; the table shows the median of each.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.transformers import TransformersEngine


@dataclass(frozen=True)
class Case:
    """What is drawn: `rows` prompts of up to `prompt` tokens, up to `new` tokens each."""

    name: str
    rows: int
    prompt: int
    new: int
    vocabulary: int = 1024
    ends: bool = False
    """Whether rows end at different times, after 32 tokens on average."""
    uneven: bool = False
    """Whether prompts have different lengths."""
    samples: int = 1
    """Draws of each prompt."""
    key_heads: int = 8
    """Fewer than 8: query heads share keys and values."""


CASES = (
    *(Case("short", rows, 24, 64) for rows in (16, 32, 64, 128)),
    *(Case("short", rows, 24, 128) for rows in (32, 128)),
    *(Case("long", rows, 512, 64) for rows in (16, 32, 64, 128)),
    Case("uneven", 64, 48, 64, uneven=True),
    Case("grouped heads", 64, 48, 64, uneven=True, key_heads=2),
    Case("four of each", 64, 512, 64, samples=4),
    Case("ending", 64, 24, 128, ends=True),
    Case("ending, refilled", 384, 24, 128, ends=True),
    Case("large vocabulary", 32, 24, 64, vocabulary=32_768),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'case':18s} {'rows':>4s} {'prompt':>6s} {'new':>4s} {'generate':>9s} {'engine':>9s} {'ratio':>6s}")
    for case in CASES:
        if case.name.startswith(arguments.only):
            generate, engine = compared(case, arguments.repeats)
            print(
                f"{case.name:18s} {case.rows:4d} {case.prompt:6d} {case.new:4d} "
                f"{generate:9,.0f} {engine:9,.0f} {engine / generate:6.2f}",
                flush=True,
            )


def compared(case: Case, repeats: int) -> tuple[float, float]:
    """Median tokens per CPU second of generate and of the engine, which take turns."""
    model, ends = new_model(case), list(range(case.vocabulary // 32)) if case.ends else []
    prompts = prompts_of(case)
    sides = (
        lambda seed: by_generate(model, prompts, ends, case, seed),
        lambda seed: by_engine(model, prompts, ends, case, seed),
    )
    for side in sides:
        side(0)
    rates = [[rate(side, seed) for side in sides] for seed in range(1, repeats + 1)]
    return statistics.median(r[0] for r in rates), statistics.median(r[1] for r in rates)


def rate(side: Callable[[int], int], seed: int) -> float:
    began = time.process_time()
    tokens = side(seed)
    return tokens / (time.process_time() - began)


def new_model(case: Case) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=case.vocabulary,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=case.key_heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def prompts_of(case: Case) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    made: list[list[int]] = []
    for place in range(case.rows // case.samples):
        length = 1 + place * (case.prompt - 1) // case.rows if case.uneven else case.prompt
        made += [torch.randint(1, case.vocabulary, (length,), generator=generator).tolist()] * case.samples
    return made


def by_engine(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], ends: Sequence[int], case: Case, seed: int
) -> int:
    seeds = range(seed * len(prompts), (seed + 1) * len(prompts))
    drawn = TransformersEngine(model, ends).draw(prompts, seeds, Sampling(1.0, 1.0, None, case.new))
    return sum(len(d.ids) for d in drawn)


def by_generate(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], ends: Sequence[int], case: Case, seed: int
) -> int:
    """All prompts as one batch, padded on the left; tokens behind a row's end are not counted."""
    torch.manual_seed(seed)
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=True,
        top_k=0,
        max_new_tokens=case.new,
        eos_token_id=list(ends) or None,
        pad_token_id=0,
    )
    new = out[:, width:]
    ended = torch.isin(new, torch.tensor(list(ends), dtype=torch.long))
    return int((ended.cumsum(-1) - ended.long() == 0).sum())


if __name__ == "__main__":
    main()
