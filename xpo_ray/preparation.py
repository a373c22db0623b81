"""From a spec to everything that a run needs before it starts: tokenised prompts, the schedule, the identity. No Ray.

`xpo-ray validate --deep` and the driver call this. Every fault of the input is found here, and nothing is written but a
temporary file, until the driver that owns the run's folder asks to keep the prompts there.
"""

from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from xpo_ray.algorithms import row_of_iteration, rows
from xpo_ray.architectures import check_kind
from xpo_ray.chat import Chat
from xpo_ray.datasets import read_examples
from xpo_ray.errors import DatasetError
from xpo_ray.fingerprints import model_fingerprint
from xpo_ray.generation.engine import held_out_sampling
from xpo_ray.generation.installed import installed_vllm, resolve_engine
from xpo_ray.judges.checks import check_judges, content_digest, judge_digest
from xpo_ray.kept_prompts import first_clock, keep, kept, not_kept, origin_of
from xpo_ray.kept_verdicts import KeptVerdicts
from xpo_ray.model_checks import Warnings, check_model
from xpo_ray.model_checks.finite import refuse_not_finite
from xpo_ray.model_checks.positions import check_lengths
from xpo_ray.model_files import model_folder
from xpo_ray.plan.adapter import check_adapter
from xpo_ray.plan.engine import check_served
from xpo_ray.plan.processes import engines_on_gpu
from xpo_ray.prompts import PromptSet, check_fill, tokenise
from xpo_ray.rehearsal.launch import check_rehearsal
from xpo_ray.schedule import Schedule
from xpo_ray.spec.base import decisive
from xpo_ray.spec.loading import digest, identity
from xpo_ray.spec.run import RunSpec

CANARY_TOKENS = 64


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start."""

    spec: RunSpec
    folder: Path
    """Of the spec file; judges' modules are looked up there first."""
    prompts: PromptSet
    held_out: PromptSet | None
    schedule: Schedule
    identity: dict[str, Any]
    canary_ids: tuple[int, ...]
    held_out_id: str
    """Of the held-out prompts and how they are evaluated: evaluations made in another way are not mixed with these."""
    record: dict[str, Any]
    """What each attempt's record keeps beside versions and spec: the judge's source, the chat and whether a GPU is used."""
    warnings: Warnings = field(default_factory=dict)
    """What a user should look at before the run spends its time."""
    remarks: tuple[str, ...] = ()
    """Why prompts that an earlier attempt kept were not taken, to be told where the identity differs."""

    def keep(self, root: Path) -> "Prepared":
        """The same with its prompts in the folder of the run, where the next attempt finds them."""
        held_out = None if self.held_out is None else keep(self.held_out, root, "evaluation")
        return replace(self, prompts=keep(self.prompts, root, "source"), held_out=held_out)


def prepare(spec: RunSpec, folder: Path) -> Prepared:
    """Read and check everything. Raises a UserError that names what is wrong; writes nothing."""
    check_judges(spec, folder)
    warnings = check_model(spec)
    check_kind(spec.model.path, spec.model.revision)
    check_adapter(spec.model)
    spec, gpu = _with_engine(spec)
    chat = Chat.of(spec.model, first_clock(Path(spec.output.path)))
    needs_pairs = any(row.needs_pairs for row in rows(spec))
    remarks: list[str] = []
    prompts = _read(spec, "source", chat, needs_pairs, remarks)
    held_out = None if spec.data.evaluation is None else _read(spec, "evaluation", chat, False, remarks)
    schedule = schedule_of(spec, prompts.table.num_rows)
    if said := chat.warnings():
        warnings["chat_template"] = "; ".join(said)
    warnings |= _tried(spec, [prompts.table, *([] if held_out is None else [held_out.table])])
    fingerprints = {"dataset": prompts.fingerprint, "model": model_fingerprint(spec.model.path)}
    canary = prompts.table["prompt_ids"][0].as_py()[:CANARY_TOKENS]
    if len(canary) < 2:
        canary = [chat.eos_id, *canary]
    held_out_id = ""
    if held_out is not None:
        scorer = spec.evaluation.judge or spec.judge
        judged = None if scorer is None else decisive(scorer)
        how = held_out_sampling(spec)
        least = [how.min_new_tokens] if how.min_new_tokens else []
        drawn = [spec.evaluation.decoding, how.max_new_tokens, *least]
        held_out_id = digest([held_out.fingerprint, judged, drawn])[:8]
    judges = {"judge": spec.judge, "evaluation.judge": spec.evaluation.judge}
    record: dict[str, Any] = {
        "judge_source": {k: judge_digest(j, folder) for k, j in judges.items() if j is not None},
        "gpu": gpu,
        "chat": chat.record(),
        "engine": installed_vllm() if spec.sampling.engine == "vllm" else None,
    }
    if spec.judge is not None and (content := content_digest(spec.judge, folder)) is not None:
        fingerprints["judge"] = content
    decided = identity(spec, fingerprints)
    told = (warnings, tuple(remarks))
    return Prepared(spec, folder, prompts, held_out, schedule, decided, tuple(canary), held_out_id, record, *told)


def _tried(spec: RunSpec, prompts: list[pa.Table]) -> Warnings:
    """What the model itself says, which takes longer than a look at its headers. Raises ModelError."""
    verdicts = KeptVerdicts.of_user()
    warnings = check_lengths(spec, *prompts)
    if (folder := model_folder(spec.model.path)) is not None:
        refuse_not_finite(folder, verdicts)
    return warnings | check_rehearsal(spec, verdicts)


def _with_engine(spec: RunSpec) -> tuple[RunSpec, bool]:
    """The spec with the engine that draws here, and whether there is a GPU. Raises SpecError where it cannot draw."""
    import torch

    gpus = torch.cuda.device_count()
    draws_on_gpu = engines_on_gpu(spec, gpus)
    engine = resolve_engine(spec, gpu=draws_on_gpu)
    sampling = spec.sampling.model_copy(update={"engine": engine})
    spec = spec.model_copy(update={"sampling": sampling})
    if engine == "vllm":
        check_served(spec, gpu=draws_on_gpu)
    return spec, gpus > 0 and spec.resources.gpus != 0


def _read(
    spec: RunSpec, name: Literal["source", "evaluation"], chat: Chat, needs_pairs: bool, remarks: list[str]
) -> PromptSet:
    """The prompts of data.source or data.evaluation: those that an earlier attempt kept, else read and tokenised."""
    source = spec.data.evaluation if name == "evaluation" and spec.data.evaluation else spec.data.source
    root = Path(spec.output.path)
    origin = origin_of(spec, source, chat, needs_pairs)
    if origin is not None and (found := kept(root, name, origin)) is not None:
        return found
    if (remark := not_kept(root, name, origin)) is not None:
        remarks.append(remark)
    faults = count()

    def left_out(_: DatasetError) -> None:
        next(faults)

    examples = read_examples(
        source,
        spec.data.columns,
        needs_pairs=needs_pairs,
        algorithm=spec.algorithm.kind,
        on_fault=left_out if spec.data.invalid_rows == "drop" else None,
    )
    with closing(examples):
        read = tokenise(examples, chat, spec.data)
    invalid = next(faults)
    return replace(read, read=read.read + invalid, invalid_rows=read.invalid_rows + invalid, origin=origin)


def schedule_of(spec: RunSpec, prompts: int) -> Schedule:
    """The walk of a run over its prompts. Raises SpecError where partitions or batches do not fit."""
    batch = spec.training.batch_size
    partitions = spec.partitions or -(-prompts // batch)
    if spec.partitions is not None:
        check_fill(prompts, partitions, batch)
    return Schedule(
        prompts=prompts,
        seed=spec.seed or 0,
        partitions=partitions,
        shard_size=min(spec.data.shard_size, batch) if spec.online else spec.data.shard_size,
        batch_size=batch,
        epochs=spec.training.epochs,
        data=tuple(row_of_iteration(spec.algorithm, t).data for t in range(1, partitions + 1)),
        portions=spec.data.portions,
        last_batch=spec.training.last_batch,
    )
