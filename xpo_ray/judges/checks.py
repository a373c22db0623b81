"""Checks of judges before a run starts, without loading them into the calling process."""

import hashlib
from pathlib import Path

from xpo_ray.errors import JudgeError, ModelError
from xpo_ray.fingerprints import model_fingerprint
from xpo_ray.judges.python import check_python_judge, source_digest
from xpo_ray.judges.remote.prompt_text import prompt_text, template_text
from xpo_ray.judges.remote.templates import template_of
from xpo_ray.judges.remote.token import token_of
from xpo_ray.model_files import model_folder
from xpo_ray.spec.judge import HttpJudge, JudgeSpec, LlmJudge, RewardModelJudge


def check_judge(spec: JudgeSpec, folder: Path) -> None:
    """Raises JudgeError where the judge cannot be imported, or its folder does not look like a reward model."""
    if spec.kind == "python":
        check_python_judge(spec, folder)
    elif isinstance(spec, HttpJudge | LlmJudge):
        _check_remote(spec)
    else:
        _check_reward_model(spec)


def judge_digest(spec: JudgeSpec, folder: Path) -> str:
    """sha256 of the function's source file, of the reward model's config and weights, or of the address of a remote judge
    and its template; nobody knows what stands behind an address."""
    if spec.kind == "python":
        return source_digest(spec, folder)
    if isinstance(spec, HttpJudge | LlmJudge):
        return _request_digest(spec)
    return model_fingerprint(spec.path)


def _check_remote(spec: HttpJudge | LlmJudge) -> None:
    """The token is there, and a template can be filled in; nothing is sent."""
    token_of(spec)
    if isinstance(spec, LlmJudge):
        template_of(spec)
    else:
        prompt_text(spec)


def _request_digest(spec: HttpJudge | LlmJudge) -> str:
    asked = template_of(spec) if isinstance(spec, LlmJudge) else template_text(spec)
    return hashlib.sha256(f"{spec.url}\n{asked}".encode()).hexdigest()


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
