"""The actor around xpo_ray.policy.Policy, or around a policy that vLLM draws for: a process and a thread count.

Each verb returns (table, summary): the table stays in the object store, the driver awaits the summary.
"""

import os
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from xpo_ray.actors.summary import Summary
from xpo_ray.algorithms import Draw
from xpo_ray.canary import Examined
from xpo_ray.candidates import drawn_table
from xpo_ray.chat import Chat
from xpo_ray.evaluation.draws import add_base, draw_held_out
from xpo_ray.generation.engine import DrawContext, Sampling
from xpo_ray.generation.pump import EngineBroken
from xpo_ray.plan.engine import vllm_settings
from xpo_ray.policy import Policy
from xpo_ray.served_policy import ServedPolicy
from xpo_ray.spec.run import RunSpec


@dataclass(frozen=True)
class WeightSource:
    """Where a version of the weights is to be had: one folder, several to average, or an object ref (passed beside it)."""

    version: int
    paths: tuple[str, ...] = ()
    ema_decay: float | None = None


class PolicyActor:
    """One replica of the policy, the reference or the base."""

    def __init__(self, spec: RunSpec, threads: int) -> None:
        torch.set_num_threads(threads)
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor do we write to it
        chat = Chat.of(spec.model)
        self.policy = _served(spec, chat) if spec.sampling.engine == "vllm" else Policy(spec, chat)
        self.source: WeightSource | None = None

    def load(
        self, source: WeightSource, weights: dict[str, torch.Tensor] | None, canary_ids: Sequence[int]
    ) -> tuple[None, float]:
        """Take a version of the weights; returns the canary's log-prob per token."""
        with whole_or_gone():
            if source != self.source or weights is not None:
                self._take(source, weights)
            return None, self.policy.canary(canary_ids)

    def _take(self, source: WeightSource, weights: dict[str, torch.Tensor] | None) -> None:
        self.source = None
        if weights is not None:
            self.policy.take(weights, source.version)
        elif source.ema_decay is not None:
            self.policy.load_average(source.paths, source.ema_decay, source.version)
        else:
            revision = self.policy.spec.model.revision if source.version == 0 else None
            self.policy.load(source.paths[0], source.version, revision)
        self.source = source

    def draw(
        self, draw: Draw, sampling: Sampling, contexts: tuple[DrawContext, ...], *shards: pa.Table
    ) -> tuple[pa.Table, Summary]:
        """Draw for shards, each with its own context, as one batch; the rows of the result follow those of the shards."""
        started = time.monotonic()
        with whole_or_gone():
            drawn = self.policy.draw(list(zip(shards, contexts, strict=True)), draw, sampling)
        flat = [c for row in drawn for c in row]
        counts = {
            "responses": float(len(flat)),
            "tokens": float(sum(len(c["ids"]) for c in flat)),
            "ended": float(sum(c["ended"] for c in flat)),
        }
        return drawn_table(drawn), Summary(len(drawn), time.monotonic() - started, counts)

    def score(self, preferences: pa.Table, version: int) -> tuple[pa.Table, Summary]:
        """PREFERENCES → SCORED: add reference log-probs."""
        started = time.monotonic()
        table = self.policy.score(preferences, version)
        return table, Summary(table.num_rows, time.monotonic() - started, {})

    def held_out(self, shard: pa.Table, sampling: Sampling, run_seed: int, version: int) -> tuple[pa.Table, Summary]:
        """Draw for held-out prompts."""
        started = time.monotonic()
        with whole_or_gone():
            table = draw_held_out(self.policy, shard, sampling, run_seed, version)
        return table, Summary(table.num_rows, time.monotonic() - started, {})

    def held_out_base(self, drawn: pa.Table) -> tuple[pa.Table, Summary]:
        """Add the base's log-probs to held-out draws."""
        started = time.monotonic()
        table = add_base(self.policy, drawn)
        return table, Summary(table.num_rows, time.monotonic() - started, {})

    def sleep(self) -> tuple[None, None]:
        """Leave the accelerator to others until the next call."""
        with whole_or_gone():
            self.policy.sleep()
        return None, None

    def examined(self, canary_ids: Sequence[int]) -> tuple[None, Examined]:
        """A look at the weights, where the canary is not the trainer's."""
        return None, self.policy.examined(canary_ids)

    def ready(self) -> tuple[None, dict[str, Any]]:
        """Process id and threads, once the process is up."""
        return None, {"pid": os.getpid(), "threads": torch.get_num_threads()}


@contextmanager
def whole_or_gone() -> Iterator[None]:
    """A process whose engine has failed in a step is of no use: it ends, and its pool puts another in its place."""
    try:
        yield
    except EngineBroken:
        traceback.print_exc()
        os._exit(1)


def _served(spec: RunSpec, chat: Chat) -> ServedPolicy:
    from xpo_ray.generation.vllm import VllmEngine

    settings = vllm_settings(spec, gpu=torch.cuda.is_available())
    return ServedPolicy(spec, chat, lambda path, revision: VllmEngine(path, settings, chat.eos_ids, revision))
