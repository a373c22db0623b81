"""Checks of judges before a run starts, without loading them into the calling process."""

import hashlib
from pathlib import Path

from xpo_ray.errors import JudgeError, ModelError
from xpo_ray.fingerprints import model_fingerprint
from xpo_ray.judges.pairrm.backbone import DEFAULT, local_backbone
from xpo_ray.judges.python import check_python_judge, source_digest
from xpo_ray.model_files import model_folder, tensor_shapes
from xpo_ray.spec.judge import JudgeSpec, PairRMJudge, RewardModelJudge

PAIRRM_HEAD = ("head_layer.1.weight", "head_layer.1.bias", "head_layer.4.weight", "head_layer.4.bias")


def check_judge(spec: JudgeSpec, folder: Path) -> None:
    """Raises JudgeError where the judge cannot be imported, or its folder does not look like what it should hold."""
    if spec.kind == "python":
        check_python_judge(spec, folder)
    elif spec.kind == "pairrm":
        _check_pairrm(spec)
    else:
        _check_reward_model(spec)


def judge_digest(spec: JudgeSpec, folder: Path) -> str:
    """sha256 of the function's source file, or of the model's config and weights (and of its backbone's config)."""
    if spec.kind == "python":
        return source_digest(spec, folder)
    own, place = model_fingerprint(spec.path), model_folder(spec.path)
    if spec.kind != "pairrm" or place is None:
        return own
    backbone = local_backbone(spec, place)
    return own if backbone is None else hashlib.sha256(f"{own} {_config_digest(backbone)}".encode()).hexdigest()


def _config_digest(folder: Path) -> str:
    return hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()


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


def _check_pairrm(spec: PairRMJudge) -> None:
    """The files and the head's names; all names and shapes are checked where it is loaded."""
    try:
        folder = model_folder(spec.path)
        names = None if folder is None else set(tensor_shapes(folder))
        named = None if spec.backbone is None else model_folder(spec.backbone)
    except ModelError as error:
        raise JudgeError(f"judge {spec.path}: {error}") from error
    if folder is not None and names is not None:
        named = local_backbone(spec, folder)
        if missing := [name for name in PAIRRM_HEAD if name not in names]:
            raise JudgeError(
                f"judge.path {spec.path}: the checkpoint has no {', '.join(missing)}; give llm-blender/PairRM-hf or "
                "llm-blender/PairRM"
            )
    if named is not None and not (named / "config.json").is_file():
        raise JudgeError(f"judge.backbone {named}: has no config.json; give the config and tokenizer of {DEFAULT}")
