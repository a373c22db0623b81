"""Real text: a small policy and a small reward model from real pairs, then three SELM iterations through `xpo-ray run`.

    python benchmarks/real_text.py [--data DIR] [--output DIR] [--seed N]

Ends with one line, passed or failed, and exit code 0 or 1: the reward model must beat chance on held-out pairs, and the
held-out reward of the last iterate must beat the base's with a paired 95 % interval above 0. Exit code 2 without the data.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from answer_pairs import missing_files, one_per_prompt, read_pairs, write_pairs
from small_policy import Limits, train_policy
from small_reward_model import judged_pairs, train_reward_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from xpo_ray.evaluation.metrics import wilson
from xpo_ray.results import Result, read_result

PROMPTS, HELD_OUT = 384, 128
SHOWN = 3


@dataclass(frozen=True)
class Verdict:
    """What must hold, and whether it does."""

    accuracy: tuple[float, float, float]
    """Held-out pair accuracy of the reward model, and its 95 % interval."""
    gain: tuple[float, float, float]
    """Paired gain of the last iterate over the base in held-out reward, and its 95 % interval."""

    @property
    def passed(self) -> bool:
        return self.accuracy[1] > 0.5 and self.gain[1] > 0.0


def main() -> int:
    arguments = _arguments()
    if missing := missing_files(arguments.data):
        print(f"no {missing[0]}; name the folder with the pairs by --data", file=sys.stderr)
        return 2
    folder = arguments.output or Path(tempfile.mkdtemp(prefix="real-text-"))
    started = time.monotonic()
    spec, accuracy = build(folder, arguments.data, arguments.seed)
    print(
        f"reward model: {accuracy[0]:.1%} of held-out pairs right, 95 % interval {accuracy[1]:.1%} to {accuracy[2]:.1%}"
    )
    command = [sys.executable, "-c", "from xpo_ray.cli import main; main()", "run", str(spec)]
    subprocess.run(command, check=True)
    result = read_result(folder / "out")
    assert result is not None
    verdict = Verdict(accuracy, gain_of(result))
    show(result)
    print(f"{time.monotonic() - started:.0f} s in all, in {folder}")
    print(
        f"{'passed' if verdict.passed else 'failed'}: gain {verdict.gain[0]:.3f} [{verdict.gain[1]:.3f}, {verdict.gain[2]:.3f}]"
    )
    return 0 if verdict.passed else 1


def build(folder: Path, data: Path, seed: int) -> tuple[Path, tuple[float, float, float]]:
    """Train both models, write the data of the run and its spec; returns the spec and the reward model's accuracy."""
    folder.mkdir(parents=True, exist_ok=True)
    limits = Limits()
    sets = read_pairs(data)
    print(
        f"{len(sets.train)} training pairs ({sets.shared} share a prompt with the test pairs and are left out), "
        f"{len(sets.test)} test pairs"
    )
    policy = train_policy(folder / "base", sets.train, sets.test, limits, seed)
    reward_model = train_reward_model(folder / "reward-model", policy, sets.train, limits, seed)
    judged = judged_pairs(reward_model, sets.test, limits)
    right = sum(0.5 if chosen == rejected else float(chosen > rejected) for chosen, rejected in judged)
    write_pairs(folder / "train.parquet", one_per_prompt(sets.train, seed)[:PROMPTS])
    write_pairs(folder / "test.parquet", one_per_prompt(sets.test, seed)[:HELD_OUT])
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(raw_spec(limits, seed), sort_keys=False))
    return path, (right / len(judged), *wilson(right, len(judged)))


def raw_spec(limits: Limits, seed: int) -> dict[str, Any]:
    """Three SELM iterations with the reward model as the judge."""
    return {
        "name": "real-text",
        "seed": seed,
        "model": {"path": "./base"},
        "data": {
            "source": {"kind": "files", "path": "./train.parquet"},
            "evaluation": {"kind": "files", "path": "./test.parquet"},
            "partitions": 3,
            "shard_size": 32,
            "max_prompt_tokens": limits.prompt,
            "max_response_tokens": limits.answer,
        },
        "algorithm": {"kind": "selm", "beta": 0.1, "alpha": 0.001},
        "sampling": {"max_new_tokens": limits.answer},
        "judge": {"kind": "reward_model", "path": "./reward-model"},
        "training": {"learning_rate": 1.0e-4, "batch_size": 16},
        "output": {"path": "./out"},
    }


def gain_of(result: Result) -> tuple[float, float, float]:
    """Paired gain over the base after the last iteration, with its interval."""
    last = result.evaluation[max(result.evaluation)]
    values = [last[name] for name in ("gain", "gain/low", "gain/high")]
    assert all(v is not None for v in values), "the last evaluation failed"
    mean, low, high = (float(v) for v in values if v is not None)
    return mean, low, high


def show(result: Result) -> None:
    """What guards against fooling ourselves: length, how far reward goes with length, and the answers themselves."""
    samples = pq.read_table(result.root / "samples.parquet").to_pylist()
    last = max(result.evaluation)
    for t in (0, last):
        rows = [s for s in samples if s["iteration"] == t]
        correlation = np.corrcoef([s["tokens"] for s in rows], [s["score"] for s in rows])[0, 1]
        print(
            f"after {t or 'nothing (base)'}: {result.evaluation[t]['length']:.1f} tokens on average; "
            f"correlation of reward and length over {len(rows)} samples {correlation:+.2f}"
        )
    before = [s for s in samples if s["iteration"] == 0]
    after = [s for s in samples if s["iteration"] == last]
    for b, a in list(zip(before, after, strict=True))[:SHOWN]:
        print(f"\n{b['prompt'][-1]['content']}")
        print(f"  before {b['score']:+.2f}  {b['response']}\n  after  {a['score']:+.2f}  {a['response']}")
    model = AutoModelForCausalLM.from_pretrained(result.model)
    tokenizer = AutoTokenizer.from_pretrained(result.model)
    turns = [{"role": "user", "content": "Give three tips for staying healthy."}]
    inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = model.generate(**inputs, max_new_tokens=40, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    print(f"\nloaded with from_pretrained, greedy: {tokenizer.decode(ids, skip_special_tokens=True)}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, help="folder with the pairs")
    parser.add_argument(
        "--output", type=Path, default=None, help="new folder for all that is made; default: a temporary one"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
