"""Tokens per second of the engine's decode loop against transformers' own `generate`, taking turns (A B A B).

    python benchmarks/decode.py [--threads 1] [--rounds 5]

Both draw the same number of tokens (EOS forbidden) from the same prompts at temperature 1; an engine on a CPU has one thread.
"""

import argparse
import time
from statistics import median

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.transformers import TransformersEngine
from xpo_ray.logprobs import choose

CASES = tuple((rows, prompt, new) for prompt, new in ((24, 64), (512, 128)) for rows in (16, 32, 128))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = made()
    print("rows prompt new | tokens/s  generate  engine  ratio")
    for rows, prompt, new in CASES:
        theirs, ours = raced(model, rows, prompt, new, arguments.rounds)
        print(f"{rows:4} {prompt:6} {new:3} | {theirs:17.0f} {ours:7.0f} {ours / theirs:6.2f}", flush=True)


def made() -> LlamaForCausalLM:
    """A Llama of 3.7 M parameters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=2048,
    )
    model = LlamaForCausalLM(config).eval()
    choose(model)
    return model


def raced(model: LlamaForCausalLM, rows: int, prompt: int, new: int, rounds: int) -> tuple[float, float]:
    """Median tokens per second of `generate` and of the engine."""
    ids = torch.randint(3, 1024, (rows, prompt))
    engine, sampling = TransformersEngine(model, [2]), Sampling(1.0, 1.0, None, new, new)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        started = time.perf_counter()
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_k=0,
            min_new_tokens=new,
            max_new_tokens=new,
            pad_token_id=0,
        )
        times[0].append(time.perf_counter() - started)
        started = time.perf_counter()
        engine.draw(ids.tolist(), range(rows), sampling)
        times[1].append(time.perf_counter() - started)
    theirs, ours = (rows * new / median(t[1:]) for t in times)
    return theirs, ours


if __name__ == "__main__":
    main()
