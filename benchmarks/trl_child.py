"""TRL's XPOTrainer on a task: one lap, or one update whose operations are counted. Runs in TRL's own environment.

    python trl_child.py TASK_FOLDER OUTPUT.json THREADS lap|count

TRL's code is not changed: timers are put around the trainer's own calls from outside. race_trl calls this.
"""

import functools
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from race_flops import counted
from race_laps import DRAW, JUDGE, OTHER, REFERENCE, STEP, Lap, write_lap
from race_task import Task, read_task
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.xpo import XPOConfig, XPOTrainer

LOG_PROBS = "log-probs"


class Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds by stage of each update, and when each ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.stages: list[dict[str, float]] = []
        self._now: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._began = self._optimizer_began = time.monotonic()

    def around(self, stage: str, call: Callable[..., Any], within: str | None = None) -> Callable[..., Any]:
        """`call`, timed; with `within` only where it is called inside that stage."""

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if within is not None and within not in self._open:
                return call(*args, **kwargs)
            started = time.monotonic()
            self._open.append(stage)
            try:
                return call(*args, **kwargs)
            finally:
                self._open.pop()
                self._now[stage] += time.monotonic() - started

        return timed

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = self.ends[-1] if self.ends else time.monotonic()

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._optimizer_began = time.monotonic()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self._now[STEP] += time.monotonic() - self._optimizer_began

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.monotonic())
        now, self._now = self._now, defaultdict(float)
        now[STEP] += now.pop(LOG_PROBS, 0.0) - now[REFERENCE]
        now[OTHER] = self.ends[-1] - self._began - sum(now[s] for s in (DRAW, JUDGE, REFERENCE, STEP))
        self.stages.append(dict(now))


def main() -> None:
    folder, output, threads, verb = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(threads)
    task = read_task(folder)
    clock = Clock()
    trainer = new_trainer(folder, task, output.parent, 1 if verb == "count" else task.updates, clock)
    if verb == "count":
        output.write_text(json.dumps(count(trainer)))
        return
    put_timers(trainer, clock)
    trainer.train()
    stats = trainer.stats
    lap = Lap(
        clock.ends,
        clock.stages,
        stats["objective/model_scores"],
        stats["objective/ref_scores"],
        stats["loss/dpo"],
    )
    write_lap(output, lap)


def new_trainer(folder: Path, task: Task, scratch: Path, updates: int, clock: Clock) -> Any:
    """The trainer as its documentation makes it, in float32, without gradient checkpointing."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    reward_model = AutoModelForSequenceClassification.from_pretrained(
        folder / "reward-model", dtype=torch.float32, num_labels=1
    )
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    return XPOTrainer(
        model=model,
        reward_funcs=reward_model,
        args=_config(task, scratch, updates),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        reward_processing_classes=AutoTokenizer.from_pretrained(folder / "reward-model"),
        callbacks=[clock],
    )


def _config(task: Task, scratch: Path, updates: int) -> XPOConfig:
    return XPOConfig(
        output_dir=str(scratch / "trl-output"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_dropout=True,
        seed=task.seed,
        max_steps=updates,
        per_device_train_batch_size=task.batch,
        gradient_accumulation_steps=1,
        learning_rate=task.learning_rate,
        lr_scheduler_type="constant",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        beta=[task.beta],
        alpha=[task.alpha],
        temperature=task.temperature,
        max_new_tokens=task.new_tokens,
        max_length=task.length + 1,
        generation_kwargs={"min_new_tokens": task.new_tokens},
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def put_timers(trainer: Any, clock: Clock) -> None:
    """Around the trainer's own methods; the reference's log-probs are told from the policy's by its forward passes."""
    reference = trainer.ref_model
    reference.forward = clock.around(REFERENCE, reference.forward, within=LOG_PROBS)
    trainer._generate_completions = clock.around(DRAW, trainer._generate_completions)
    trainer._compute_rewards = clock.around(JUDGE, trainer._compute_rewards)
    trainer._compute_logprobs = clock.around(LOG_PROBS, trainer._compute_logprobs)
    trainer._compute_losses = clock.around(STEP, trainer._compute_losses)
    trainer.accelerator.backward = clock.around(STEP, trainer.accelerator.backward)


def count(trainer: Any) -> list[float]:
    """Operations of one update."""
    counts: list[float] = []
    step = trainer.training_step

    def counting(*args: Any, **kwargs: Any) -> Any:
        with counted(counts):
            return step(*args, **kwargs)

    trainer.training_step = counting
    trainer.train()
    return counts


if __name__ == "__main__":
    main()
