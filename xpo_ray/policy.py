"""One model under a version: it draws, gives log-probs and answers the canary. A plain class; actors give it a process.

The same class holds the policy, the reference and the base: they differ in their weights alone. In bfloat16 log-probs are
computed as the trainer computes them, from float32 weights, so that a reference equal to the policy gives z = 0. With an
adapter one model, the trainer's again, does both; it answers for version 0 beside its own version, with the adapter off.
Weights lie on the process's device; asleep they lie in the CPU's memory, and the next call that needs them wakes them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from torch import Tensor

from xpo_ray.adapters import Adapter, averaged, read_adapter
from xpo_ray.algorithms import Draw
from xpo_ray.canary import Examined, broken_tensors
from xpo_ray.chat import Chat
from xpo_ray.checkpoints import load_model, put_weights
from xpo_ray.devices import CPU, emptied, own_device
from xpo_ray.generation.engine import DrawContext, Sampling, draw_responses
from xpo_ray.generation.transformers import TransformersEngine
from xpo_ray.linear import through_onednn
from xpo_ray.logprobs import LogProbFunction, PromptGroup, choose, plain
from xpo_ray.logprobs.attention_kinds import whole_attention
from xpo_ray.scoring import score_references, sequence_logps
from xpo_ray.spec.data import LoraSpec
from xpo_ray.spec.run import RunSpec
from xpo_ray.training import canary_logp

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Policy:
    """Weights with a version. Every call names the version that it means, and is refused for any other."""

    def __init__(
        self, spec: RunSpec, chat: Chat, log_probs: LogProbFunction | None = None, *, draws: bool = True
    ) -> None:
        """Without `draws` it gives log-probs alone."""
        self.spec = spec
        self.chat = chat
        self._given = log_probs
        self._draws = draws
        self._device = own_device()
        self.log_probs: LogProbFunction
        self.version: int | None = None
        self.adapter: Adapter | None = None
        self.engine: TransformersEngine
        self.scorer: PreTrainedModel

    def load(self, path: str | Path, version: int, revision: str | None = None) -> None:
        """Take the weights of a Hugging Face folder (or hub repository), or an adapter's; version 0 has none."""
        if lora := self.spec.model.lora:
            self._adapt(lora, read_adapter(path) if version else None, version)
        else:
            self._hold(load_model(path, "float32", revision), version)

    def take(self, weights: dict[str, Tensor], version: int) -> None:
        """Take weights that came by object ref."""
        if lora := self.spec.model.lora:
            return self._adapt(lora, weights, version)
        held = self.version is not None
        model = self.scorer if held else load_model(self.spec.model.path, "float32", self.spec.model.revision)
        put_weights(model, weights)
        return self._hold(model, version)

    def load_average(self, paths: Sequence[str | Path], decay: float, version: int) -> None:
        """Take the exponential moving average of published models, oldest first: r ← decay·r + (1 − decay)·θ."""
        if lora := self.spec.model.lora:
            if len(paths) == 1:
                return self._adapt(lora, None, version)
            return self._hold_adapter(averaged(self.spec.model, lora, paths[1:], decay), version)
        model = load_model(paths[0], "float32", self.spec.model.revision)
        for path in paths[1:]:
            with torch.no_grad():
                for own, new in zip(model.parameters(), load_model(path, "float32").parameters(), strict=True):
                    own.mul_(decay).add_(new, alpha=1.0 - decay)
        return self._hold(model, version)

    def _adapt(self, lora: LoraSpec, weights: dict[str, Tensor] | None, version: int) -> None:
        adapter = self.adapter or Adapter(self.spec.model, lora)
        if weights is not None:
            adapter.put(weights)
        self._hold_adapter(adapter, version)

    def _hold_adapter(self, adapter: Adapter, version: int) -> None:
        if adapter is not self.adapter:
            adapter.model.to(self._device)
            through_onednn(adapter.model, frozen=True)
            self.log_probs = self._given or choose(adapter.model, self.spec.model.dtype).log_probs
            self.adapter, self.scorer = adapter, adapter.model
            if self._draws:
                self.engine = TransformersEngine(adapter.model, self.chat.eos_ids)
        self.version = version

    def _hold(self, model: "PreTrainedModel", version: int) -> None:
        if self.version is not None and model is not self.scorer and self._device != CPU:
            put_weights(self.scorer, model.state_dict())  # a GPU may have no room for two
            model = self.scorer
        if self.version is None or model is not self.scorer:
            model.to(self._device)
            through_onednn(model, frozen=True)
            self.log_probs = self._given or choose(model, self.spec.model.dtype).log_probs
        self.scorer = model
        if self._draws:
            self._draw_from(model)
        self.version = version

    def _draw_from(self, model: "PreTrainedModel") -> None:
        drawer = model
        if self.spec.model.dtype == "bfloat16":
            drawer = self.engine.model if self.version is not None else _half(model).to(self._device)
            put_weights(drawer, model.state_dict())
        if self.version is None or drawer is not self.engine.model:
            self.engine = TransformersEngine(drawer, self.chat.eos_ids)

    def canary(self, ids: Sequence[int]) -> float:
        """Mean log-prob per token of a fixed text, in nats."""
        with torch.no_grad(), self._serving(self.version):
            return canary_logp(self.log_probs, self.scorer, ids, self.spec.model.dtype)

    def examined(self, ids: Sequence[int]) -> Examined:
        """What the weights give on the plain path, and which of them are not finite."""
        with torch.no_grad(), self._serving(self.version):
            given = canary_logp(plain, self.scorer, ids, self.spec.model.dtype)
            return Examined(given, broken_tensors(self.scorer))

    def draw(
        self, work: Sequence[tuple[pa.Table, DrawContext]], draw: Draw, sampling: Sampling
    ) -> list[list[dict[str, Any]]]:
        """Candidates for each row of shards that are drawn as one batch."""
        versions = sorted({context.version for _, context in work})
        if len(versions) != 1:
            raise RuntimeError(f"one batch of draws has one policy version, this one has {versions}")
        with self._serving(versions[0]):
            return draw_responses(self.engine, self.chat, work, draw, sampling)

    def score(self, preferences: pa.Table, version: int) -> pa.Table:
        """PREFERENCES → SCORED under these weights."""
        with self._serving(version):
            return score_references(
                preferences,
                self.scorer,
                self.log_probs,
                dtype=self.spec.model.dtype,
                micro_batch_tokens=self.spec.training.micro_batch_tokens,
            )

    def logps(self, groups: Sequence[PromptGroup], version: int) -> list[list[float]]:
        """Summed log-prob in nats of every response of every group."""
        with self._serving(version):
            return sequence_logps(
                self.scorer,
                groups,
                self.log_probs,
                dtype=self.spec.model.dtype,
                micro_batch_tokens=self.spec.training.micro_batch_tokens,
            )

    def sleep(self) -> None:
        """Leave a GPU's memory to others until the next call."""
        if self.version is not None and self._device != CPU:
            self._lie_on(CPU)
            emptied(self._device)

    def _lie_on(self, device: torch.device) -> None:
        drawer = [self.engine.model] if self._draws else []
        for model in (self.scorer, *drawer):
            if model.device != device:
                model.to(device)

    @contextmanager
    def _serving(self, version: int | None) -> Iterator[None]:
        """The weights of a version, awake: those held, or the base under their adapter."""
        if self.version is not None:
            self._lie_on(self._device)
        if version == 0 and self.adapter is not None:
            with self.adapter.off():
                yield
        elif version is not None and version == self.version:
            yield
        else:
            raise RuntimeError(f"asked for policy version {version}, these weights are version {self.version}")


def _half(model: "PreTrainedModel") -> "PreTrainedModel":
    """A model of the same shape in bfloat16, its buffers (rotary frequencies) still in float32."""
    half: PreTrainedModel = type(model)._from_config(deepcopy(model.config), dtype=torch.bfloat16).eval()
    return whole_attention(half)
