"""A policy whose draws come from an engine of its own (vLLM), and whose log-probs come from the trainer's kind of model.

An engine's own log-probs are rounded otherwise (DESIGN §4.5), so none enters a loss: a transformers model with the same
weights is loaded when log-probs are first asked for, and only then. The verbs are those of xpo_ray.policy.Policy.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from torch import Tensor

from xpo_ray.algorithms import Draw
from xpo_ray.chat import Chat
from xpo_ray.checkpoints import weights_of
from xpo_ray.generation.engine import DrawContext, Sampling, draw_responses
from xpo_ray.generation.vllm import VllmEngine
from xpo_ray.logprobs import PromptGroup
from xpo_ray.policy import Policy
from xpo_ray.spec.run import RunSpec

MakeEngine = Callable[[str, str | None], VllmEngine]
"""(folder or hub repository, revision) → an engine that serves it."""


class ServedPolicy:
    """Weights with a version. Draws may be asked for from several threads at once; weights may not change meanwhile."""

    def __init__(self, spec: RunSpec, chat: Chat, make_engine: MakeEngine) -> None:
        self.spec = spec
        self.chat = chat
        self.version: int | None = None
        self._make_engine = make_engine
        self._engine: VllmEngine | None = None
        self._scorer = Policy(spec, chat, draws=False)
        self._fill: Callable[[], None] | None = None
        """Brings the weights of the version into the scorer; None when they are there."""
        self._scoring = threading.Lock()

    def load(self, path: str | Path, version: int, revision: str | None = None) -> None:
        """Take the weights of a Hugging Face folder, or of a hub repository."""
        self.version = None  # of a hand-over that fails half-way nothing is served
        if self._engine is None:
            self._engine = self._make_engine(str(path), revision)
        else:
            self._engine.load(path, revision)
        self._serve(version, lambda: self._scorer.load(path, version, revision))

    def take(self, weights: dict[str, Tensor], version: int) -> None:
        """Take weights that came by object ref."""
        self.version = None
        self._made().take(weights)
        self._serve(version, lambda: self._scorer.take(weights, version))

    def load_average(self, paths: Sequence[str | Path], decay: float, version: int) -> None:
        """Take the exponential moving average of published models, oldest first."""
        self.version = None
        self._scorer.load_average(paths, decay, version)
        self._made().take(weights_of(self._scorer.scorer))
        self._serve(version, None)

    def canary(self, ids: Sequence[int]) -> float:
        """Mean log-prob per token of a fixed text, in nats, as the engine serves it."""
        return self._made().logp(ids)

    def draw(
        self, work: Sequence[tuple[pa.Table, DrawContext]], draw: Draw, sampling: Sampling
    ) -> list[list[dict[str, Any]]]:
        """Candidates for each row of shards."""
        for _, context in work:
            self._check(context.version)
        return draw_responses(self._made(), self.chat, work, draw, sampling)

    def score(self, preferences: pa.Table, version: int) -> pa.Table:
        """PREFERENCES → SCORED under these weights."""
        with self._scoring:
            return self._filled(version).score(preferences, version)

    def logps(self, groups: Sequence[PromptGroup], version: int) -> list[list[float]]:
        """Summed log-prob in nats of every response of every group."""
        with self._scoring:
            return self._filled(version).logps(groups, version)

    def sleep(self) -> None:
        """Leave the accelerator to others until the next call."""
        if self._engine is not None:
            self._engine.sleep()
        with self._scoring:
            self._scorer.sleep()

    def _serve(self, version: int, fill: Callable[[], None] | None) -> None:
        self.version, self._fill = version, fill

    def _made(self) -> VllmEngine:
        if self._engine is None:
            self._engine = self._make_engine(self.spec.model.path, self.spec.model.revision)
        return self._engine

    def _filled(self, version: int) -> Policy:
        self._check(version)
        if self._fill is not None:
            self._fill()
            self._fill = None
        return self._scorer

    def _check(self, version: int) -> None:
        if version != self.version:
            raise RuntimeError(f"asked for policy version {version}, these weights are version {self.version}")
