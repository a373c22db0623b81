"""Comparisons per second of the PairRM judge beside one forward pass for each ordered pair.

    python benchmarks/pairrm.py [--size large|small] [--prompts 8] [--repeats 3] [--threads 1] [--dtype float32|bfloat16]

Random weights: `large` has the sizes of deberta-v3-large with PairRM's head (0.4 B parameters), `small` a tenth of them. Three
responses per prompt, as SELM judges them: six ordered pairs, of which transformers' DebertaV2Model reads one at a time. A
comparison is one of them; on a CPU the seconds are those of its cores. The two sides take turns; the table shows the median of
each, and how far apart their logits are at most.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import torch
from transformers import DebertaV2Config

from xpo_ray.judges.pairrm.encoding import Ids, Pair
from xpo_ray.judges.pairrm.judge import by_length
from xpo_ray.judges.pairrm.model import PairRM
from xpo_ray.linear import through_onednn

Side = Callable[[list[list[Pair]]], dict[Pair, float]]
SIZES: dict[str, dict[str, int]] = {
    "large": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    "small": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 4},
}
MARKS = ((1, 128_001), (1, 128_002), (1, 128_003))
"""CLS and the prefix of each segment."""


@dataclass(frozen=True)
class Case:
    """Tokens of a prompt and of a response, each drawn evenly between half of it and one and a half of it."""

    name: str
    prompt: int
    response: int
    duplicates: bool = False
    """Whether every second prompt has two equal responses."""


CASES = (
    Case("short", 32, 48),
    Case("chat", 128, 192),
    Case("equal texts", 128, 192, duplicates=True),
    Case("long", 384, 320),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="large")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--only", default="", help="cases whose name begins so")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = new_model(arguments.size, getattr(torch, arguments.dtype))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:,.0f} M parameters, {arguments.dtype}, {device()}")
    print(f"{'case':12s} {'tokens':>6s} {'forward':>8s} {'one each':>9s} {'judge':>9s} {'ratio':>6s} {'apart':>8s}")
    for case in CASES:
        if case.name.startswith(arguments.only):
            prompts = prompts_of(case, arguments.prompts)
            show(case, prompts, *compared(model, prompts, arguments.repeats, arguments.batch_tokens))


def show(case: Case, prompts: list[list[Pair]], naive: float, judge: float, apart: float) -> None:
    tokens = statistics.mean(len(pair.ids) for pairs in prompts for pair in pairs)
    read = len(read_by_the_judge(prompts))
    ratio = judge / naive
    print(f"{case.name:12s} {tokens:6.0f} {read:8d} {naive:9.2f} {judge:9.2f} {ratio:6.2f} {apart:8.1e}", flush=True)


def stock(model: PairRM) -> PairRM:
    """The same weights in modules that compute as torch does by itself."""
    with torch.device("meta"):
        other = PairRM(model.pretrained_model.config, 1).eval()
    other.load_state_dict(model.state_dict(), assign=True)
    embeddings = model.pretrained_model.embeddings
    other.pretrained_model.embeddings.position_ids = embeddings.position_ids
    return other


def compared(model: PairRM, prompts: list[list[Pair]], repeats: int, batch_tokens: int) -> tuple[float, float, float]:
    """Median comparisons per second one at a time and as the judge makes them, and their greatest difference."""
    plain = stock(model)
    sides: tuple[Side, Side] = (
        lambda some: one_each(plain, some),
        lambda some: as_the_judge(model, some, batch_tokens),
    )
    for side in sides:
        side([prompts[0][:2]])
    laps = [[lap(side, prompts) for side in sides] for _ in range(repeats)]
    (_, expected), (_, got) = laps[0]
    apart = max(abs(expected[pair] - got[pair]) for pair in got)
    naive, judge = (statistics.median(rate for rate, _ in side) for side in zip(*laps, strict=True))
    return naive, judge, apart


def lap(side: Side, prompts: list[list[Pair]]) -> tuple[float, dict[Pair, float]]:
    """Comparisons per second on a GPU; per second of a core on a CPU, so that neighbours on the machine count less."""
    clock = time.perf_counter if device().type == "cuda" else time.process_time
    began = clock()
    logits = side(prompts)
    return sum(map(len, prompts)) / (clock() - began), logits


@torch.inference_mode()
def one_each(model: PairRM, prompts: list[list[Pair]]) -> dict[Pair, float]:
    """LLM-Blender's order without its padding: DebertaV2Model and the head on each pair by itself, duplicates again."""
    out: dict[Pair, float] = {}
    plain = model.pretrained_model
    for pairs in prompts:
        for pair in pairs:
            ids = torch.tensor([pair.ids], device=device())
            hidden = plain(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            source, left, right = hidden[list(pair.places)]
            heads = [model.head_layer(torch.cat([source, candidate])) for candidate in (left, right)]
            out[pair] = float((heads[0] - heads[1]).mean())
    return out


def as_the_judge(model: PairRM, prompts: list[list[Pair]], batch_tokens: int) -> dict[Pair, float]:
    """All pairs of a shard, equal ones once, in batches by length."""
    out: dict[Pair, float] = {}
    for batch in by_length(read_by_the_judge(prompts), batch_tokens):
        length = max(len(pair.ids) for pair in batch)
        ids = torch.tensor([(*pair.ids, *[0] * (length - len(pair.ids))) for pair in batch], device=device())
        lengths = torch.tensor([len(pair.ids) for pair in batch], device=device())
        places = torch.tensor([pair.places for pair in batch], device=device())
        out |= zip(batch, model(ids, lengths, places).tolist(), strict=True)
    return out


def read_by_the_judge(prompts: list[list[Pair]]) -> set[Pair]:
    """Each pair once, and none of a text with itself."""
    return {pair for pairs in prompts for pair in pairs if not of_one_text(pair)}


def of_one_text(pair: Pair) -> bool:
    _, left, right = pair.places
    return pair.ids[left + 1 : right - 2] == pair.ids[right + 1 : -1]


def new_model(size: str, dtype: torch.dtype) -> PairRM:
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=128_005,
        max_position_embeddings=512,
        position_buckets=256,
        max_relative_positions=-1,
        relative_attention=True,
        position_biased_input=False,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        type_vocab_size=0,
        **SIZES[size],
    )
    model = PairRM(config, 1).to(device(), dtype).eval().requires_grad_(False)
    through_onednn(model, frozen=True)
    return model


def prompts_of(case: Case, count: int) -> list[list[Pair]]:
    """The six ordered pairs of each prompt; both sides get the same ids."""
    draw = random.Random(0)
    made = []
    for number in range(count):
        source = segment(draw, 0, case.prompt)
        texts = [text(draw, case.response) for _ in range(3)]
        if case.duplicates and number % 2 == 0:
            texts[2] = texts[0]
        made.append([joined(source, texts[i], texts[j]) for i, j in permutations(range(3), 2)])
    return made


def joined(source: Ids, left: Ids, right: Ids) -> Pair:
    first, second, third = source, (*MARKS[1], *left, 2), (*MARKS[2], *right, 2)
    return Pair((*first, *second, *third), (1, len(first) + 1, len(first) + len(second) + 1))


def segment(draw: random.Random, mark: int, tokens: int) -> Ids:
    return (*MARKS[mark], *text(draw, tokens), 2)


def text(draw: random.Random, tokens: int) -> Ids:
    return tuple(draw.randrange(4, 128_000) for _ in range(draw.randint(tokens // 2, tokens * 3 // 2)))


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
