"""Checks of judges before a run starts, without loading them into the calling process."""

from pathlib import Path

from xpo_ray.errors import JudgeError, ModelError
from xpo_ray.fingerprints import model_fingerprint
from xpo_ray.judges.python import check_python_judge, source_digest
from xpo_ray.model_files import model_folder
from xpo_ray.spec.judge import JudgeSpec, RewardModelJudge, SingleJudge, single_judges
from xpo_ray.spec.loading import digest

DECIDED_BY_CONTENT = ("reward_model",)


def check_judge(spec: JudgeSpec, folder: Path) -> None:
    """Raises JudgeError where the judge cannot be imported, or its folder does not look like a reward model.

    An actor is not looked for: it lives on Ray, and may be started until the first prompt is judged.
    """
    for _, judge in single_judges(spec, "judge"):
        match judge.kind:
            case "python":
                check_python_judge(judge, folder)
            case "reward_model":
                _check_reward_model(judge)
            case "actor":
                pass


def judge_digest(spec: JudgeSpec, folder: Path) -> str:
    """sha256 of the function's source file, or of the reward model's config and weights; an actor's name.

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
        case "actor":
            return f"actor:{spec.namespace}/{spec.name}"


def _check_reward_model(spec: RewardModelJudge) -> None:
    try:
        folder = model_folder(spec.path)
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
