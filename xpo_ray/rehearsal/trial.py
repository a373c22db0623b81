"""A small random model goes through what a run does with a model: with the engine, the log-probs, the trainer and the writer of
runs, beside the model's own forward pass with its own ("eager") attention, one sequence at a time.

Only the process of a rehearsal calls it. Who made the model is not asked: what its class itself cannot do is a reason not to
rehearse, what the run's code cannot do with it is a reason to refuse.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from xpo_ray.adapters import save_merged
from xpo_ray.algorithms import row_of_iteration
from xpo_ray.architectures import check_architecture, read_config
from xpo_ray.checkpoints import save_tokenizer
from xpo_ray.errors import ModelError
from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.transformers import TransformersEngine
from xpo_ray.logprobs import PromptGroup
from xpo_ray.model_files import model_folder
from xpo_ray.plan.shapes import has_weights
from xpo_ray.policy import Policy
from xpo_ray.rehearsal.cutting import cuts
from xpo_ray.rehearsal.doubt import doubt_of, own_logits, own_logps, told
from xpo_ray.rehearsal.names import fault_of_names
from xpo_ray.rehearsal.request import Request, Verdict
from xpo_ray.rehearsal.small_folder import OF_SMALL, write_small
from xpo_ray.schedule import Slice, Window
from xpo_ray.shards import SCORED
from xpo_ray.spec.data import ModelSpec
from xpo_ray.spec.run import RunSpec
from xpo_ray.steps import StepOrder
from xpo_ray.training import Trainer

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

MOST_PARAMETERS = 20_000_000
TOLERANCE = 2e-3
"""Nats per sequence in float32, or this share of its log-prob where that is above 1."""
REGRET = 2e-3
"""By how much the logit of a greedy draw may lie below the best one, as a share of the spread of the logits."""
SEEDS = (7, 8)
STRENGTH = 3.0
"""Queries and keys are so much larger than others: attention that is nearly even would show no cap and no window."""
NEW_TOKENS = 8
LENGTHS = (3, 21, 9, 30)
"""Of the prompts: on both sides of the windows and borders of a cut config."""


class Refused(Exception):
    """The run could not do with the model what it has to."""


def rehearsed(request: Request) -> Verdict:
    """The whole rehearsal of a spec's model. What one seed's weights show counts where another's show it too."""
    model = request.spec.model
    try:
        config = _config(model)
        with _act("compare the names of the weights"):
            if (fault := _fault_of_names(model)) is not None:
                raise Refused(fault)
        with _act("save its tokenizer"):
            save_tokenizer(model.path, Path(request.scratch) / "tokenizer", model.revision)
    except Refused as error:
        return Verdict("refused", str(error))
    verdict = Verdict("ok")
    for seed in SEEDS:
        verdict = _of_seed(request, config, seed)
        if verdict.outcome != "refused":
            break
    return verdict


def _of_seed(request: Request, config: "PretrainedConfig", seed: int) -> Verdict:
    torch.manual_seed(seed)
    made = _small(config)
    if isinstance(made, str):
        return Verdict("not_rehearsed", made)
    scratch = Path(request.scratch) / str(seed)
    write_small(made, request.spec.model, scratch / "small")
    try:
        _try(request.spec, made, scratch)
    except Refused as error:
        doubt = doubt_of(made, scratch / "small", _groups(made))
        return Verdict("refused", str(error)) if doubt is None else Verdict("not_rehearsed", f"{doubt}; {error}")
    return Verdict("ok")


def _config(model: ModelSpec) -> "PretrainedConfig":
    """The part of the config that is the language model's. Raises Refused for what cannot be one."""
    try:
        config = read_config(model.path, model.revision)
        check_architecture(config)
    except ModelError as error:
        raise Refused(str(error)) from error
    text: PretrainedConfig = config.get_text_config(decoder=True)
    return text if type(text) in MODEL_FOR_CAUSAL_LM_MAPPING else config


def _fault_of_names(model: ModelSpec) -> str | None:
    folder = model_folder(model.path)
    return fault_of_names(model) if folder is not None and has_weights(folder) else None


@contextmanager
def _act(what: str) -> Iterator[None]:
    """Whatever goes wrong is a refusal that says where."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:  # of any library's kind: the run would end with it
        raise Refused(f"a rehearsal with a small model of this kind failed to {what}: {told(error)}") from error


def _small(config: "PretrainedConfig") -> "PreTrainedModel | str":
    """The first small model that its own class makes and runs; or why there is none."""
    why = "no config of it could be cut down"
    for cut in cuts(config):
        try:
            with torch.device("meta"):
                size = sum(p.numel() for p in _made(cut).parameters())
            if size > MOST_PARAMETERS:
                why = f"cut down it still has {size / 1e6:.0f} M parameters"
                continue
            model = _strong(_made(cut))
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]]), use_cache=False).logits
        except Exception as error:  # noqa: BLE001 - a cut that its class does not take is no fault of the model
            why = f"its config could not be cut down: {told(error)}"
            continue
        if torch.isfinite(logits).all():
            return model
        why = "with random weights it gives logits that are not finite"
    return why


def _made(config: "PretrainedConfig") -> "PreTrainedModel":
    """With the model's own attention where it has one to choose."""
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
        )
    except ValueError:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return model.eval()


@torch.no_grad()
def _strong(model: "PreTrainedModel") -> "PreTrainedModel":
    """Random weights that do something: rows of length about 1, queries and keys longer."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            attends = any(part in name.rpartition(".")[2] for part in ("q_proj", "k_proj"))
            module.weight.normal_(std=(STRENGTH if attends else 1.0) / module.in_features**0.5)
    model.tie_weights()
    return model


def _try(spec: RunSpec, own: "PreTrainedModel", scratch: Path) -> None:
    """Every act of a run. Raises Refused."""
    folder, after = scratch / "small", scratch / "stepped"
    groups = _groups(own)
    small = spec.model_copy(update={"model": spec.model.model_copy(update={"path": str(folder)} | OF_SMALL)})
    policy = Policy(small, _Ends())  # type: ignore[arg-type]
    with _act("load it from a folder"):
        policy.load(folder, 0)
    with _act("draw"):
        _check_draws(policy, own, groups)
    expected = own_logps(own, groups)
    with _act("compute log-probs"):
        _compare("log-probs of an engine", _flat(policy.logps(groups, 0)), expected, small)
        trainer = Trainer(small.training, str(folder), small.model.dtype, origin=small.model)
        _compare("log-probs of the trainer", _trained_logps(trainer, groups), expected, small)
    with _act("take a step"):
        _step(trainer, small, groups, expected)
    with _act("save a checkpoint"):
        trainer.save(after, {"iteration": 0, "step": 1, "total_steps": 1}, optimizer=True)
    if small.model.lora is not None:
        with _act("merge its adapter, as the result of a run"):
            save_merged(after / "model", scratch / "merged")
    stepped = _trained_logps(trainer, groups)
    again = Policy(small, _Ends())  # type: ignore[arg-type]
    with _act("load its checkpoint again"):
        again.load(after / "model", 1)
        _compare("log-probs of what was saved and loaded again", _flat(again.logps(groups, 1)), stepped, small)


class _Ends:
    """Of a chat, what a policy asks for: tokens that end a draw; none here."""

    eos_ids: tuple[int, ...] = ()
    eos_id = 0


def _groups(own: "PreTrainedModel") -> list[PromptGroup]:
    """Prompts of several lengths, each with two responses."""
    generator = torch.Generator().manual_seed(SEEDS[0])
    words = int(own.get_input_embeddings().weight.shape[0])
    first = min(words // 2, 64)

    def text(length: int) -> list[int]:
        return [int(i) for i in torch.randint(first, words, (length,), generator=generator)]

    return [PromptGroup(text(n), (text(5), text(7))) for n in LENGTHS]


def _compare(what: str, got: list[float], expected: list[float], spec: RunSpec) -> None:
    """Raises Refused where sums of log-probs are not those of the model; in bfloat16 they are only looked at."""
    worst, at = max((abs(a - b) / max(1.0, abs(b)), i) for i, (a, b) in enumerate(zip(got, expected, strict=True)))
    if not all(map(_finite, got)) or (spec.model.dtype == "float32" and worst > TOLERANCE):
        raise Refused(
            f"with a small model of this kind the {what} are {got[at]:.4f} nats where its own forward pass gives "
            f"{expected[at]:.4f}; the run would train another model than the one it exports"
        )


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


def _flat(logps: list[list[float]]) -> list[float]:
    return [value for group in logps for value in group]


@torch.no_grad()
def _trained_logps(trainer: Trainer, groups: list[PromptGroup]) -> list[float]:
    return [float(v) for v in trainer.log_probs(trainer.model, groups).logp_S]


@torch.no_grad()
def _check_draws(policy: Policy, own: "PreTrainedModel", groups: list[PromptGroup]) -> None:
    """Greedy draws are the model's own, while all rows draw and after some have ended."""
    prompts = [list(g.prompt_ids) for g in groups]
    sampling = Sampling(0.0, 1.0, None, NEW_TOKENS)
    drawn = policy.engine.draw(prompts, range(len(prompts)), sampling)
    ends = tuple({drawn[0].ids[1], drawn[2].ids[4]})
    engine = TransformersEngine(policy.engine.model, ends)
    for draws in (drawn, engine.draw(prompts, range(len(prompts)), sampling)):
        for prompt, one in zip(prompts, draws, strict=True):
            if policy.spec.model.dtype == "float32":
                _check_greedy(own, prompt, list(one.ids))
    engine.draw(prompts, range(len(prompts)), Sampling(1.0, 0.9, 5, NEW_TOKENS, 2))


def _check_greedy(own: "PreTrainedModel", prompt: list[int], ids: list[int]) -> None:
    """Looks again token by token where one pass differs: rotary frequencies may follow the length of what is read."""
    whole_TV = own_logits(own, [*prompt, *ids])[len(prompt) - 1 : -1]
    if _is_greedy(whole_TV, ids):
        return
    stepwise_TV = torch.stack([own_logits(own, [*prompt, *ids[:i]])[-1] for i in range(len(ids))])
    if not _is_greedy(stepwise_TV, ids):
        raise Refused("with a small model of this kind greedy draws are not those of its own forward pass")


def _is_greedy(logits_TV: Tensor, ids: list[int]) -> bool:
    behind_T = logits_TV.max(-1).values - logits_TV.gather(-1, torch.tensor(ids)[:, None])[:, 0]
    return float((behind_T / logits_TV.std(-1)).max()) <= REGRET


def _step(trainer: Trainer, spec: RunSpec, groups: list[PromptGroup], references: list[float]) -> None:
    """One optimizer step on pairs, as the first of a run. Raises Refused where the weights are not finite after it."""
    table = _scored(groups, references)
    row = row_of_iteration(spec.algorithm, 1)
    window = Window(1, 1, 1, (Slice(1, 0, tuple(range(table.num_rows))),))
    result = trainer.step(StepOrder(window, 1, 1e-3, 1e-3, row), [table])
    if not all(_finite(result.metrics[name]) for name in ("loss", "grad_norm") if name in result.metrics):
        raise Refused("with a small model of this kind a step's loss or gradient is not finite")


def _scored(groups: list[PromptGroup], references: list[float]) -> pa.Table:
    rows = [_row(i, g, references[2 * i : 2 * i + 2]) for i, g in enumerate(groups)]
    return pa.Table.from_pylist(rows, schema=SCORED)


def _row(place: int, group: PromptGroup, references: list[float]) -> dict[str, Any]:
    candidates = [
        {"origin": "policy", "sample": i, "version": 0, "text": "", "ids": list(ids), "ended": False}
        for i, ids in enumerate(group.responses)
    ]
    preference = {"outcome": "pair", "chosen": 0, "rejected": 1, "comparators": [0], "label": 1.0, "weight": 1.0}
    return {
        "row": place,
        "prompt_id": str(place),
        "prompt": [{"role": "user", "content": ""}],
        "prompt_ids": list(group.prompt_ids),
        "candidates": candidates,
        "judgement": {"status": "judged", "scores": [1.0, 0.0], "judge": "rehearsal", "tries": 1},
        "preference": preference | {"wins_chosen": 0.75, "wins_rejected": 0.25},
        "reference_logps": references,
    }
