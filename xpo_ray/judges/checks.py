"""Checks of judges before a run starts, without loading them into the calling process."""

import hashlib
from pathlib import Path
from typing import Any

from xpo_ray.errors import JudgeError, ModelError
from xpo_ray.fingerprints import model_fingerprint
from xpo_ray.judges.naming import named
from xpo_ray.judges.pairrm.backbone import DEFAULT, local_backbone, read_json
from xpo_ray.judges.pairrm.names import HEAD, expected, refuse_others
from xpo_ray.judges.python import check_python_judge, source_digest
from xpo_ray.judges.remote.prompt_text import prompt_text, template_text
from xpo_ray.judges.remote.templates import template_of
from xpo_ray.judges.remote.token import token_of
from xpo_ray.model_checks.adapters import refuse_adapters
from xpo_ray.model_checks.heads import CLASSIFIERS
from xpo_ray.model_files import model_folder, tensor_shapes
from xpo_ray.spec.judge import JudgeSpec, PairRMJudge, RewardModelJudge, SingleJudge, single_judges
from xpo_ray.spec.loading import digest
from xpo_ray.spec.remote_judge import HttpJudge, LlmJudge
from xpo_ray.spec.run import RunSpec

DEFAULT_LABELS = 2
"""Of a config that names none (transformers 5.19)."""
DECIDED_BY_CONTENT = ("reward_model", "pairrm", "http", "llm")
"""Kinds whose files decide the result beside their fields: models, and the templates of what is sent to an endpoint."""


def check_judges(spec: RunSpec, folder: Path) -> None:
    """Raises JudgeError for the run's judge, or that of its evaluation, as `check_judge` does."""
    for field, judge in (("judge", spec.judge), ("evaluation.judge", spec.evaluation.judge)):
        if judge is not None:
            check_judge(judge, folder, field)


def check_judge(spec: JudgeSpec, folder: Path, field: str = "judge") -> None:
    """Raises JudgeError where the judge cannot be imported, or its folder does not look like what it should hold; `field` is
    where the spec has it.

    An actor is not looked for: it lives on Ray, and may be started until the first prompt is judged.
    """
    for place, judge in single_judges(spec, field):
        with named(place, judge.kind):
            _check(judge, folder)


def _check(judge: SingleJudge, folder: Path) -> None:
    match judge.kind:
        case "python":
            check_python_judge(judge, folder)
        case "reward_model":
            _check_reward_model(judge)
        case "pairrm":
            _check_pairrm(judge)
        case "http" | "llm":
            _check_remote(judge)
        case "actor":
            pass


def judge_digest(spec: JudgeSpec, folder: Path) -> str:
    """sha256 of the function's source file, of the model's config and weights (with its backbone's config), or of the address
    and the template of a remote judge, as nobody knows what stands behind an address; an actor's name.

    Of an ensemble: of its members' digests.
    """
    digests = [_digest(judge, folder) for _, judge in single_judges(spec, "judge")]
    return digests[0] if spec.kind != "ensemble" else digest(digests)


def content_digest(spec: JudgeSpec, folder: Path) -> str | None:
    """What of a judge decides the result and stands in no field of its spec: the content of its files; None without any.

    The source of a function is no part of it: one that failed may be mended, and the run goes on.
    """
    digests = [_digest(judge, folder) for _, judge in single_judges(spec, "judge") if judge.kind in DECIDED_BY_CONTENT]
    if spec.kind == "ensemble":
        return digest(digests) if digests else None
    return digests[0] if digests else None


def _digest(spec: SingleJudge, folder: Path) -> str:
    match spec.kind:
        case "python":
            return source_digest(spec, folder)
        case "reward_model":
            return model_fingerprint(spec.path)
        case "pairrm":
            return _pairrm_digest(spec)
        case "http" | "llm":
            return _request_digest(spec)
        case "actor":
            return f"actor:{spec.namespace}/{spec.name}"


def _pairrm_digest(spec: PairRMJudge) -> str:
    own, place = model_fingerprint(spec.path), model_folder(spec.path)
    backbone = None if place is None else local_backbone(spec, place)
    if backbone is None:
        return own
    config = hashlib.sha256((backbone / "config.json").read_bytes()).hexdigest()
    return hashlib.sha256(f"{own} {config}".encode()).hexdigest()


def _request_digest(spec: HttpJudge | LlmJudge) -> str:
    asked = template_of(spec) if isinstance(spec, LlmJudge) else template_text(spec)
    return hashlib.sha256(f"{spec.url}\n{asked}".encode()).hexdigest()


def _check_remote(spec: HttpJudge | LlmJudge) -> None:
    """The token is there, and a template can be filled in; nothing is sent."""
    token_of(spec)
    if isinstance(spec, LlmJudge):
        template_of(spec)
    else:
        prompt_text(spec)


def _check_reward_model(spec: RewardModelJudge) -> None:
    try:
        folder = model_folder(spec.path)
        if folder is not None:
            refuse_adapters(folder, "judge.path")
    except ModelError as error:
        raise JudgeError(f"reward_model path: {error}") from error
    if folder is None:
        return
    for name in ("config.json", "tokenizer_config.json"):
        if not (folder / name).exists():
            raise JudgeError(
                f"reward model {folder} has no {name}; name a folder that from_pretrained loads, with tokenizer"
            )
    if not any(folder.glob("*.safetensors")):
        raise JudgeError(
            f"reward model {folder} has no *.safetensors; save it with save_pretrained(safe_serialization=True)"
        )
    refuse_other_outputs(spec.path, read_json(folder / "config.json", f"judge.path {spec.path}"))
    _refuse_language_model(spec, folder)


def refuse_other_outputs(path: str, config: dict[str, Any]) -> None:
    """Raises JudgeError for a classifier with several labels, whichever of them were the reward."""
    labels = config.get("id2label")
    outputs = len(labels) if isinstance(labels, dict) and labels else config.get("num_labels", DEFAULT_LABELS)
    if outputs != 1:
        raise JudgeError(
            f"judge.path {path}: a reward model has one output (num_labels 1), this one has {outputs}; "
            f"give a checkpoint that was trained as a reward model"
        )


def _refuse_language_model(spec: RewardModelJudge, folder: Path) -> None:
    """A language model's head and none of a classifier: its score would be random."""
    try:
        modules = {part for name in tensor_shapes(folder) for part in name.split(".")}
    except ModelError as error:
        raise JudgeError(f"judge.path {spec.path}: {error}") from error
    if "lm_head" in modules and not modules & {*CLASSIFIERS, "classification_head", "sequence_summary", "logits_proj"}:
        raise JudgeError(
            f"judge.path {spec.path}: the weights are those of a language model (lm_head, and no score); give a reward model, "
            "not the language model that it was made from"
        )


def _check_pairrm(spec: PairRMJudge) -> None:
    """The files and the names of the weights; shapes are checked where it is loaded."""
    try:
        folder = model_folder(spec.path)
        names = None if folder is None else set(tensor_shapes(folder))
        backbone = None if spec.backbone is None else model_folder(spec.backbone)
    except ModelError as error:
        raise JudgeError(f"judge {spec.path}: {error}") from error
    if folder is not None:
        backbone = local_backbone(spec, folder)
    if backbone is not None and not (backbone / "config.json").is_file():
        raise JudgeError(f"judge.backbone {backbone}: has no config.json; give the config and tokenizer of {DEFAULT}")
    if folder is not None and names is not None:
        refuse_others(spec, *_compared(_deberta_config(spec, folder, backbone), names))


def _deberta_config(spec: PairRMJudge, folder: Path, backbone: Path | None) -> dict[str, Any] | None:
    """The config of a checkpoint's DeBERTa: of its backbone, else its own; None where the backbone is on the hub."""
    if backbone is not None:
        return read_json(backbone / "config.json", f"judge.backbone {backbone}")
    return read_json(folder / "config.json", f"judge.path {spec.path}") if spec.backbone is None else None


def _compared(config: dict[str, Any] | None, names: set[str]) -> tuple[set[str], set[str]]:
    """Names that are wanted, and those of the checkpoint: all where the config is of a kind that is known, else of the head."""
    wanted = None if config is None else expected(config)
    return (set(HEAD), names & set(HEAD)) if wanted is None else (wanted, names)
