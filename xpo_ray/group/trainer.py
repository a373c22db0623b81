"""The trainer of a group: the verbs of xpo_ray.training.Trainer, on each rank, for a policy whose matrices lie on all of them.

All ranks are called alike: with the same order and the same shards, and each takes its own share of the examples. What a step
answers is that of the whole window, on every rank; an error of the numbers is raised on all of them alike, before any weight
has changed. A rank whose peers are gone raises GroupBroken; it is then of no more use.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from xpo_ray.adapters import Adapter, read_adapter
from xpo_ray.architectures import has_other_parts
from xpo_ray.chat import Chat
from xpo_ray.checkpoints import copy_processor
from xpo_ray.crashpoints import crash_point
from xpo_ray.errors import ModelError, RunFailed
from xpo_ray.group.gradients import add_up_vectors, clip
from xpo_ray.group.model_writer import ModelWriter, kept_tensors
from xpo_ray.group.optimizer_state import load_state, save_state
from xpo_ray.group.ranks import Ranks, whole_group
from xpo_ray.group.sharding import ShardedLogProbs, full, read_weights, shard
from xpo_ray.group.shares import passes
from xpo_ray.group.skeleton import as_if_held, local_folder, not_held, skeleton
from xpo_ray.ledger import pairs_hash
from xpo_ray.linear import through_onednn
from xpo_ray.logprobs import Choice, PromptGroup, choose, plain, precision, shared
from xpo_ray.logprobs.unmasked import unmasked
from xpo_ray.metrics import WindowMetrics
from xpo_ray.offload import Offload
from xpo_ray.recomputation import recompute_layers
from xpo_ray.saved_chat import save_chat
from xpo_ray.spec.data import ModelSpec
from xpo_ray.spec.training import TrainingSpec
from xpo_ray.steps import StepOrder, StepResult, WindowExamples, diverged_norm
from xpo_ray.training import canary_logp, optimizer_of

NOBODY = PromptGroup([0], ([0],))
"""What a rank computes on that has no examples left; it counts for nothing."""


class GroupTrainer:
    """Steps, saves and loads one policy, together with the other ranks.

    `origin` is the run's model, whose tokenizer goes into every checkpoint; `path` a folder that `save` wrote, None for the
    model as it was. `seed` is that of a new adapter's A.
    """

    def __init__(
        self, spec: TrainingSpec, ranks: Ranks, origin: ModelSpec, path: str | None = None, seed: int = 0
    ) -> None:
        self.spec = spec
        self.ranks = ranks
        self.origin = origin
        self._chat: Chat | None = None
        self.dtype: Literal["float32", "bfloat16"] = origin.dtype
        base = local_folder(path if path and origin.lora is None else origin.path, origin.revision)
        self.model = skeleton(base, "float32" if origin.lora is None else origin.dtype)
        self.adapter = self._adapt(path, seed)
        self.whole = shard(self.model, ranks, origin.dtype)
        read_weights(self.model, base, ranks)
        through_onednn(self.model, frozen=False)
        self.path = self._choose()
        if spec.activation_checkpointing:
            recompute_layers(self.model)
        self.log_probs = ShardedLogProbs(self.whole, self.path.log_probs)
        self._offload = Offload(ranks.device)
        self.reset_optimizer()

    def _adapt(self, path: str | None, seed: int) -> Adapter | None:
        if self.origin.lora is None:
            return None
        as_if_held(self.model)
        adapter = Adapter(self.origin, self.origin.lora, seed, self.model)
        if path is not None:
            adapter.put(read_adapter(path))
        not_held(self.model)
        return adapter

    @torch.no_grad()
    def _choose(self) -> Choice:
        """The path for log-probs, which is the same on all ranks and makes one pass of each call. Raises ModelError."""
        mine: Choice = self.whole.call(choose, self.dtype)
        if self.ranks.size > 1 and mine.log_probs not in (shared, plain, unmasked):
            raise ModelError(
                f"model.path {self.origin.path}: what a sequence gives depends on those beside it, so that sequences are "
                f"computed apart, which several trainer workers cannot do in step; set resources.trainer_workers: 1"
            )
        reasons = [reason for reason in self.ranks.all_told(mine.reason) if reason is not None]
        return mine if mine.reason is not None or not reasons else Choice(plain, reasons[0])

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def reset_optimizer(self) -> None:
        """Forget the moments, as at the border of an iteration."""
        rows = [p for p in self.trained if isinstance(p, DTensor)]
        vectors = [p for p in self.trained if not isinstance(p, DTensor)]
        self.optimizer = optimizer_of(self.spec, [{"params": kind} for kind in (rows, vectors) if kind])

    def step(self, order: StepOrder, shards: Sequence[pa.Table]) -> StepResult:
        """One optimizer step on a window; `shards` are the SCORED tables of its slices, in order.

        Raises TrainingDiverged, on all ranks and before any weight has changed, where the loss or the gradient is not finite.
        """
        started = time.monotonic()
        window = WindowExamples.of(order, shards)
        metrics = window.metrics(self.dtype, counts_rows=self.ranks.first)
        if window.trains(bonus_alone=self.spec.bonus_without_pairs):
            try:
                metrics = self._accumulate(window, metrics)
                metrics.grad_norm = self._apply(order)
            finally:
                self.optimizer.zero_grad(set_to_none=True)
        return StepResult(pairs_hash(window.tables), window.values(metrics), time.monotonic() - started)

    def _accumulate(self, window: WindowExamples, metrics: WindowMetrics) -> WindowMetrics:
        """Forward and backward over this rank's micro-batches, as many as on any other; returns the metrics of all ranks."""
        groups = [e.group for e in window.examples]
        for batch in passes(groups, self.ranks.size, self.spec.micro_batch_tokens, self.log_probs)[self.ranks.rank]:
            self._pass(window, batch, metrics)
        if not self.ranks.first:
            crash_point("step.within")
        first, *others = self.ranks.all_told(metrics)
        for other in others:
            first.add_rank(other)
        if not math.isfinite(first.loss):
            raise window.diverged_loss(first.loss)
        return first

    def _pass(self, window: WindowExamples, batch: list[int], metrics: WindowMetrics) -> None:
        """One micro-batch, or where it is empty a computation as long as the shortest one."""
        chosen = [window.examples[i] for i in batch]
        with precision(self.dtype, self.ranks.device):
            out = self.log_probs(self.model, [e.group for e in chosen] or [NOBODY], entropy=True)
        if chosen:
            told = window.told(chosen, out)
            metrics.add(*told)
        loss = told[0].loss if chosen else 0.0 * out.logp_S.sum()
        with whole_group():
            torch.autograd.backward(loss)

    def _apply(self, order: StepOrder) -> float:
        trained = self.trained
        add_up_vectors(trained, self.ranks)
        norm = clip(trained, self.spec.max_grad_norm, self.ranks)
        if not math.isfinite(norm):
            raise diverged_norm(order, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = order.learning_rate
        self.optimizer.step()
        return norm

    @torch.no_grad()
    def canary(self, ids: Sequence[int]) -> float:
        """Mean log-prob per token (nats) of a fixed text; an engine that serves these weights gives the same."""
        return canary_logp(self.log_probs, self.model, ids, self.dtype)

    def weights(self) -> dict[str, Tensor]:
        """The policy's weights, or its adapter's alone, to travel by object ref; the other ranks help and get nothing."""
        kept = self.adapter.parameters.items() if self.adapter else kept_tensors(self.model)
        whole = ((name, full(tensor.detach())) for name, tensor in kept)
        return {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in whole if self.ranks.first}

    def sleep(self) -> None:
        """Leave the GPU's memory to others, between two steps, until `wake`; every rank does so."""
        self._offload.sleep(self.whole, self.optimizer)

    def wake(self) -> None:
        """Before anything is computed."""
        self._offload.wake(self.whole, self.optimizer)

    def save(self, folder: Path, position: dict[str, int], *, optimizer: bool) -> None:
        """Write the checkpoint's content into a folder that all ranks see. Returns once all have confirmed that theirs is
        there; raises on all of them where one could not."""
        fault = self._write_model(folder / "model")
        if optimizer:
            fault = save_state(folder / "trainer", self.model, self.optimizer, position, self.ranks) or fault
        if not self.ranks.first:
            crash_point("checkpoint.before_confirm")
        faults = self.ranks.all_told(None if fault is None else f"{type(fault).__name__}: {fault}")
        if fault is not None:
            raise fault
        for rank, reason in enumerate(faults):
            if reason is not None:
                raise RunFailed(f"{folder}: rank {rank} could not write its part of a checkpoint: {reason}")

    def _write_model(self, folder: Path) -> Exception | None:
        if self.adapter is None:
            writer = ModelWriter(self.model, folder, writes=self.ranks.first)
            writer.write()
            return writer.fault or self._tried(folder)
        return self._tried(folder, self.weights())

    def _tried(self, folder: Path, adapter: dict[str, Tensor] | None = None) -> Exception | None:
        """What the first rank writes alone; returns what went wrong."""
        if not self.ranks.first:
            return None
        try:
            if self.adapter is not None:
                self.adapter.save(folder, adapter)
            elif has_other_parts(self.model.config):
                copy_processor(self.origin.path, folder, self.origin.revision)
            self._chat = self._chat or Chat.of(self.origin)
            save_chat(self._chat, folder)
        except Exception as error:  # noqa: BLE001 - libraries fail in ways of their own; the other ranks must hear of it
            return error
        return None

    def restore_state(self, folder: Path) -> None:
        """Take up the optimizer and random state of a checkpoint whose model this trainer was made from."""
        if (folder / "trainer").exists():
            load_state(folder / "trainer", self.model, self.optimizer, self.ranks.rank)
