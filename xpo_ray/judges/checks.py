"""Checks of judges before a run starts, without loading them into the calling process."""

from pathlib import Path

from xpo_ray.errors import JudgeError, ModelError
from xpo_ray.fingerprints import model_fingerprint
from xpo_ray.judges.python import check_python_judge, source_digest
from xpo_ray.model_files import model_folder
from xpo_ray.spec.judge import JudgeSpec, RewardModelJudge


def check_judge(spec: JudgeSpec, folder: Path) -> None:
    """Raises JudgeError where the judge cannot be imported, or its folder does not look like a reward model."""
    if spec.kind == "python":
        check_python_judge(spec, folder)
    else:
        _check_reward_model(spec)


def judge_digest(spec: JudgeSpec, folder: Path) -> str:
    """sha256 of the function's source file, or of the reward model's config and weights."""
    return source_digest(spec, folder) if spec.kind == "python" else model_fingerprint(spec.path)


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
