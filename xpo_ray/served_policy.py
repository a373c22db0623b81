"""A policy whose draws come from an engine of its own (vLLM), and whose log-probs come from the trainer's kind of model.

An engine's own log-probs are rounded otherwise (DESIGN §4.5), so none enters a loss: a transformers model with the same
weights is loaded when log-probs are first asked for, and only then. The verbs are those of xpo_ray.policy.Policy. With an
adapter the engine holds the base and the adapter of its version, and serves version 0 beside it.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from torch import Tensor

from xpo_ray.adapters import adapter_folder
from xpo_ray.algorithms import Draw
from xpo_ray.canary import Examined
from xpo_ray.chat import Chat
from xpo_ray.checkpoints import weights_of
from xpo_ray.generation.engine import DrawContext, Sampling, draw_responses
from xpo_ray.generation.vllm import Unadapted, VllmEngine
from xpo_ray.logprobs import PromptGroup
from xpo_ray.policy import Policy
from xpo_ray.spec.run import RunSpec
from xpo_ray.stored_names import as_stored

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
        """Take the weights of a Hugging Face folder (or hub repository), or an adapter's; version 0 has none."""
        self.version = None  # of a hand-over that fails half-way nothing is served
        if self.spec.model.lora is not None:
            self._made().adapt(path if version else None)
        elif self._engine is None:
            self._engine = self._make_engine(str(path), revision)
        else:
            self._engine.load(path, revision)
        self._serve(version, lambda: self._scorer.load(path, version, revision))

    def take(self, weights: dict[str, Tensor], version: int) -> None:
        """Take weights that came by object ref."""
        self.version = None
        self._hand_over(weights)
        self._serve(version, lambda: self._scorer.take(weights, version))

    def load_average(self, paths: Sequence[str | Path], decay: float, version: int) -> None:
        """Take the exponential moving average of published models, oldest first."""
        self.version = None
        self._scorer.load_average(paths, decay, version)
        adapter = self._scorer.adapter
        self._hand_over(weights_of(self._scorer.scorer) if adapter is None else adapter.weights())
        self._serve(version, None)

    def canary(self, ids: Sequence[int]) -> float:
        """Mean log-prob per token of a fixed text, in nats, as the engine serves it."""
        return self._made().logp(ids)

    def examined(self, ids: Sequence[int]) -> Examined:
        """What a transformers model with the same weights gives, which the engine does not show."""
        with self._scoring:
            assert self.version is not None
            return self._filled(self.version).examined(ids)

    def draw(
        self, work: Sequence[tuple[pa.Table, DrawContext]], draw: Draw, sampling: Sampling
    ) -> list[list[dict[str, Any]]]:
        """Candidates for each row of shards that are drawn as one batch."""
        versions = sorted({context.version for _, context in work})
        if len(versions) != 1:
            raise RuntimeError(f"one batch of draws has one policy version, this one has {versions}")
        self._check(versions[0])
        engine = self._made() if versions[0] == self.version else Unadapted(self._made())
        return draw_responses(engine, self.chat, work, draw, sampling)

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

    def _hand_over(self, weights: dict[str, Tensor]) -> None:
        if (lora := self.spec.model.lora) is None:
            return self._made().take(as_stored(weights, self.spec.model.path, self.spec.model.revision))
        with adapter_folder(weights, lora) as folder:
            return self._made().adapt(folder)

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
        beneath = version == 0 and self.version is not None and self.spec.model.lora is not None
        if version != self.version and not beneath:
            raise RuntimeError(f"asked for policy version {version}, these weights are version {self.version}")
