"""The trainer: a plain class that turns one window of scored preferences into one optimizer step. No Ray.

It holds what it trains in float32 (computing in the spec's dtype): all weights, or an adapter in a model that stays as it is.
It owns the optimizer, and is told the learning rate and κ of each step by the driver. It never decides what to train on, and
never writes but into the folder that it is given.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import torch
from torch import Tensor

from xpo_ray.adapters import Adapter, read_adapter
from xpo_ray.chat import Chat
from xpo_ray.checkpoints import (
    load_model,
    load_trainer_state,
    save_model,
    save_tokenizer,
    save_trainer_state,
    weights_of,
)
from xpo_ray.devices import own_device
from xpo_ray.examples import Example
from xpo_ray.lanes import Lanes
from xpo_ray.ledger import pairs_hash
from xpo_ray.linear import through_onednn
from xpo_ray.logprobs import Choice, LogProbFunction, PromptGroup, choose, micro_batches, precision
from xpo_ray.logprobs.shared import whole
from xpo_ray.logprobs.sides import Sides
from xpo_ray.metrics import WindowMetrics
from xpo_ray.offload import Offload
from xpo_ray.recomputation import recompute_layers
from xpo_ray.saved_chat import save_chat
from xpo_ray.spec.data import ModelSpec
from xpo_ray.spec.training import TrainingSpec
from xpo_ray.steps import StepOrder, StepResult, Told, WindowExamples, diverged_norm


class Trainer:
    """Steps, saves and loads one policy.

    `model_path` is a model; or, where `origin` (the run's model, whose tokenizer goes into every checkpoint) asks for an
    adapter, that model's own path or a folder that `save` wrote. `seed` is that of a new adapter's A.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        model_path: str,
        dtype: Literal["float32", "bfloat16"],
        revision: str | None = None,
        log_probs: LogProbFunction | None = None,
        origin: ModelSpec | None = None,
        seed: int = 0,
    ) -> None:
        self.spec = spec
        self.dtype = dtype
        self._origin = origin
        self._chat: Chat | None = None
        self.tokenizer = (origin.path, origin.revision) if origin else (model_path, revision)
        self.adapter = _adapter(origin, model_path, seed)
        model = self.adapter.model if self.adapter else load_model(model_path, "float32", revision)
        self.model = model.to(own_device())
        through_onednn(self.model, frozen=False)
        self.path = Choice(log_probs) if log_probs is not None else choose(self.model, dtype)
        if spec.activation_checkpointing:
            recompute_layers(self.model)
        self.log_probs = self.path.log_probs
        self.lanes = _lanes(self.model, self.device)
        self._offload = Offload(self.device)
        self.reset_optimizer()

    def reset_optimizer(self) -> None:
        """Forget the moments, as at the border of an iteration."""
        self.optimizer = optimizer_of(self.spec, [p for p in self.model.parameters() if p.requires_grad])

    def step(self, order: StepOrder, shards: Sequence[pa.Table]) -> StepResult:
        """One optimizer step on a window; `shards` are the SCORED tables of its slices, in order.

        Raises TrainingDiverged, before any weight has changed, where the loss or the gradient is not finite.
        """
        started = time.monotonic()
        window = WindowExamples.of(order, shards)
        metrics = window.metrics(self.dtype)
        if window.trains(bonus_alone=self.spec.bonus_without_pairs):
            try:
                self._accumulate(window, metrics)
                metrics.grad_norm = self._apply(order)
            finally:
                self.optimizer.zero_grad(set_to_none=True)
        return StepResult(pairs_hash(window.tables), window.values(metrics), time.monotonic() - started)

    def _accumulate(self, window: WindowExamples, metrics: WindowMetrics) -> None:
        """Forward and backward over micro-batches; divided by the window's true counts, so that they add up."""
        examples = window.examples
        shares = self.lanes.shares([self.log_probs.tokens([e.group]) for e in examples])
        tokens = max(self.spec.micro_batch_tokens // len(shares), 1)
        trained = [p for p in self.model.parameters() if p.requires_grad]

        def losses(share: list[int]) -> Iterator[tuple[Tensor, Told]]:
            own = [examples[i] for i in share]
            for batch in micro_batches([e.group for e in own], tokens, self.log_probs):
                told = self._told(window, [own[i] for i in batch])
                yield told[0].loss, told

        for told in self.lanes.backward(trained, shares, losses):
            metrics.add(*told)

    def _told(self, window: WindowExamples, chosen: list[Example]) -> Told:
        """The loss of a micro-batch, and all that the metrics want to know of it. Raises TrainingDiverged."""
        with precision(self.dtype, self.device):
            out = self.log_probs(self.model, [e.group for e in chosen], entropy=True)
        told = window.told(chosen, out)
        if not math.isfinite(loss := float(told[0].loss.detach())):
            raise window.diverged_loss(loss)
        return told

    def _apply(self, order: StepOrder) -> float:
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.max_grad_norm))
        if not math.isfinite(norm):
            raise diverged_norm(order, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = order.learning_rate
        self.optimizer.step()
        return norm

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @torch.no_grad()
    def canary(self, ids: Sequence[int]) -> float:
        """Mean log-prob per token (nats) of a fixed text; an engine that serves these weights gives the same."""
        return canary_logp(self.log_probs, self.model, ids, self.dtype)

    def weights(self) -> dict[str, Tensor]:
        """The policy's weights, or its adapter's alone, to travel by object ref."""
        return self.adapter.weights() if self.adapter else weights_of(self.model)

    def sleep(self) -> None:
        """Leave a GPU's memory to others, between two steps, until `wake`."""
        self._offload.sleep(self.model, self.optimizer)

    def wake(self) -> None:
        """Before anything is computed."""
        self._offload.wake(self.model, self.optimizer)

    def save(self, folder: Path, position: dict[str, int], *, optimizer: bool) -> None:
        """Write the checkpoint's content: the model or adapter, and the optimizer where the next step needs it."""
        if self.adapter:
            self.adapter.save(folder / "model")
            save_tokenizer(self.tokenizer[0], folder / "model", self.tokenizer[1])
        else:
            save_model(self.model, self.tokenizer[0], folder / "model", self.tokenizer[1])
        if self._origin is not None:
            self._chat = self._chat or Chat.of(self._origin)
            save_chat(self._chat, folder / "model")
        if optimizer:
            save_trainer_state(folder / "trainer", self.model, self.optimizer, position)

    def restore_state(self, folder: Path) -> None:
        """Take up the optimizer and random state of a checkpoint whose model this trainer was made from."""
        if (folder / "trainer").exists():
            load_trainer_state(folder / "trainer", self.model, self.optimizer)


def _lanes(model: torch.nn.Module, device: torch.device) -> Lanes:
    """One alone for a model that keeps the frequencies of the sequences it read last: a lane would compute with another's."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Lanes(device, None if Sides.of(whole(model)) is None else 1, weights=trained)


def _adapter(origin: ModelSpec | None, path: str, seed: int) -> Adapter | None:
    if origin is None or origin.lora is None:
        return None
    adapter = Adapter(origin, origin.lora, seed)
    if path != origin.path:
        adapter.put(read_adapter(path))
    return adapter


def canary_logp(
    log_probs: LogProbFunction, model: Any, ids: Sequence[int], dtype: Literal["float32", "bfloat16"]
) -> float:
    """Mean log-prob per token of ids[1:] behind ids[0], in nats."""
    device = next(model.parameters()).device
    with precision(dtype, device):
        out = log_probs(model, [PromptGroup(list(ids[:1]), (list(ids[1:]),))])
    return float(out.logp_S[0]) / max(int(out.tokens_S[0]), 1)


def optimizer_of(spec: TrainingSpec, parameters: Iterable[Tensor] | Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
    """A new optimizer, whose learning rate each step sets."""
    if spec.optimizer == "rmsprop":
        return torch.optim.RMSprop(
            parameters, lr=0.0, alpha=spec.rmsprop_alpha, eps=spec.rmsprop_epsilon, weight_decay=spec.weight_decay
        )
    betas = (spec.adam_beta1, spec.adam_beta2)
    return torch.optim.AdamW(
        parameters, lr=0.0, betas=betas, eps=spec.adam_epsilon, weight_decay=spec.weight_decay, fused=True
    )
