"""Sampling, training, evaluation, resources and output."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from xpo_ray.spec.base import Spec, later, operational
from xpo_ray.spec.judge import JudgeSpec


class SamplingSpec(Spec):
    """How responses are drawn. Every draw has a seed of its own, made from the run's seed and what is drawn."""

    engine: Literal["auto", "transformers", "vllm"] = operational("auto")
    """Who draws. `auto`: vLLM where there is a GPU and a vLLM of the tested range, else transformers. Runs that vLLM draws for
    are of the tier `replay`."""
    temperature: PositiveFloat = 1.0
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    top_k: int | None = Field(None, ge=1)
    max_new_tokens: int = Field(256, ge=1)
    min_new_tokens: int = Field(0, ge=0)
    """EOS is not drawn before this many tokens. Above 0, or at a temperature other than 1, or with top_p or top_k, draws are
    not from the distribution that log-probs are of: the step metrics are then log_ratio/… and no kl/…."""

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(f"min_new_tokens {self.min_new_tokens} is above max_new_tokens {self.max_new_tokens}")
        return self


class TrainingSpec(Spec):
    """One optimizer step is one window of `batch_size` prompts."""

    learning_rate: PositiveFloat | Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = 5e-7
    """One value, or one for each iteration."""
    batch_size: int = Field(64, ge=1)
    epochs: int = Field(1, ge=1)
    """Passes over each partition."""
    last_batch: Literal["keep", "drop"] = later("keep")
    """What to do about the end of an epoch that is less than a batch: `keep` makes a smaller step of it; `drop` none, as the
    Trainer of transformers does where gradients are accumulated."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = Field(0.1, ge=0.0, lt=1.0)
    """Share of the steps over which the learning rate rises from 0."""
    optimizer: Literal["adamw", "rmsprop"] = later("adamw")
    """`rmsprop` keeps one moment in place of two: what DPO's first code and SPPO's train with."""
    weight_decay: NonNegativeFloat = 0.0
    """Of `adamw` beside the gradient's step; of `rmsprop` an L2 penalty in the gradient."""
    adam_beta1: float = Field(0.9, ge=0.0, lt=1.0)
    adam_beta2: float = Field(0.999, ge=0.0, lt=1.0)
    adam_epsilon: PositiveFloat = 1e-8
    rmsprop_alpha: float = later(0.99, ge=0.0, lt=1.0)
    """Share of the old mean of squares: v ← α v + (1 − α) g², the step is g / (√v + ε)."""
    rmsprop_epsilon: PositiveFloat = later(1e-8)
    bonus_without_pairs: bool = later(False)
    """Let a window without a single pair train the exploration bonus alone. Otherwise it takes no optimizer step: the step is
    recorded as skipped, and step numbers and the schedule go on."""
    max_windows_without_pairs: int = operational(20, ge=0)
    """The run pauses after so many windows in a row without a pair, counted from its start or its resume; 0: never."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients are scaled down to this L2 norm."""
    micro_batch_tokens: int = operational(2048, ge=1)
    """Tokens in one forward and backward pass; a step accumulates as many passes as it needs."""
    activation_checkpointing: bool = operational(False)
    """Make the activations of each layer again in the backward pass: less memory, about a third more work."""
    checkpoint_every_steps: int | None = operational(None, ge=1)
    """Checkpoints within an iteration, beside the one that ends it. In a fully online run (one window per iteration)
    the distance between checkpoints; default 50 there."""


class EvaluationSpec(Spec):
    """Made on `data.evaluation` after each iteration; its failure never fails the run."""

    judge: JudgeSpec | None = None
    """Default: the judge of the run."""
    decoding: Literal["sample", "greedy"] = "sample"
    """`sample` draws at temperature 1 with the same seeds in every iteration; KL needs it."""
    max_new_tokens: int | None = Field(None, ge=1)
    """Default: sampling.max_new_tokens."""
    min_new_tokens: int | None = Field(None, ge=0)
    """Default: sampling.min_new_tokens. Above 0 there is no held-out KL: draws then lack an early EOS that log-probs allow. Set
    0 to have it."""
    every_steps: int = operational(50, ge=1)
    """Distance between evaluations in a fully online run; else each iteration is evaluated."""
    select: Literal["last", "best"] = "last"
    """Which iterate becomes the result: the last, or the one with the best held-out reward."""


class ResourcesSpec(Spec):
    """Where and how the work is done; nothing here decides the result."""

    layout: Literal["dedicated", "colocated"] = operational("dedicated")
    """`dedicated` overlaps drawing, judging and training, each on GPUs of its own as far as they go round; `colocated` runs the
    stages of an iteration in turn, on the same GPUs."""
    gpus: int | None = operational(None, ge=0)
    """GPUs that the run takes. Default: all of the cluster; of a run that is submitted, as many as it has reserved."""
    engine_replicas: int | None = operational(None, ge=1)
    """Engines of each set of weights (policy, fixed reference). Default: one per core on a CPU, each with one thread; one for
    each GPU, or for each engine_tensor_parallel of them, that training and judging leave."""
    engine_gpus: NonNegativeFloat | None = operational(None)
    """GPUs of each engine: a part of one, or a whole number; 0 computes on the CPU. Default: engine_tensor_parallel where that
    is above 1, else one, or an equal part of one that several processes share."""
    engine_tensor_parallel: int = operational(1, ge=1)
    """GPUs of a node over which vLLM cuts each replica; on a CPU, processes that share the replica's threads."""
    engine_kv_cache_gib: float | None = operational(None, gt=0.0)
    """Keys and values of each vLLM replica; default: what its shards in flight need at most, between 1 and 16 GiB."""
    judge_replicas: int | None = operational(None, ge=1)
    """Default: one; of a judge with a model of its own one per core on a CPU, each with one thread, and one per GPU where the
    layout is `colocated`."""
    judge_gpus: NonNegativeFloat | None = operational(None)
    """GPUs of each process of a judge that computes in it: a part of one, or a whole number; 0 computes on the CPU. Default: as
    an engine's for a judge with a model of its own, none for a `python` function."""
    trainer_workers: Annotated[int, Field(ge=1)] | Literal["auto"] = operational("auto")
    """Processes that train together; each holds its share of the weights, the gradients and the optimizer. `auto`: one without
    GPUs; else one on each GPU where the layout is `colocated`, on half of them where it is `dedicated`. It may change between
    attempts; the run is then of tier `replay`."""
    trainer_worker_resources: dict[str, NonNegativeFloat] | None = operational(None)
    """What each trainer worker asks Ray for, such as {CPU: 8}. GPU: a part of one, or a whole number; 0 trains on the CPU.
    Default: a GPU where there are any, a part of one where the layout is `colocated`."""
    trainer_threads: int | None = operational(None, ge=1)
    """Of each trainer worker. Default: one per core, shared out among the workers."""
    placement_timeout_s: float = operational(300.0, gt=0.0)
    """How long a run may wait for its GPUs, and for what else its trainer workers ask for, before it stops and says what is
    lacking."""
    group_timeout_s: float = operational(600.0, ge=1.0)
    """How long trainer workers wait for each other, before the group is taken for broken and starts anew from the last
    checkpoint."""
    max_shards_in_flight: int | None = operational(None, ge=1)
    """Shards between drawing and training; default: two per engine replica and two more."""
    max_restarts: int = operational(3, ge=0)
    """Deaths of one role without progress in between, before the run stops."""
    hung_after_s: float = operational(600.0, ge=1.0)
    """An actor that has not answered a call for so long is ended and replaced, as after a death. It gets six times as long for
    what it does for the first time, such as loading a model, and 20 times its slowest call of that kind where that is longer. A
    judge with time limits of its own gets what they add up to besides, as long as it gives a sign of life now and then. Reads
    of what is committed have the same limit."""
    ray_address: str | None = operational(None)
    """Join this Ray cluster; default: a local Ray is started for the run."""
    dashboard: bool = operational(True)
    """Start the Ray dashboard with the local Ray."""


class OutputSpec(Spec):
    """Where the run writes."""

    path: str = operational(...)
    """Folder of the run, relative to the spec file."""
    samples: int = operational(32, ge=0)
    """Held-out prompts whose responses are kept for each iteration."""
