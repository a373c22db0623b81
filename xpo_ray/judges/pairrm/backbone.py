"""The form of a PairRM, and where DeBERTa's config and tokenizer lie. The plan and the checks ask too: no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xpo_ray.errors import JudgeError
from xpo_ray.spec.judge import PairRMJudge

DEFAULT = "microsoft/deberta-v3-large"


def read_config(file: Path, path: str) -> dict[str, Any]:
    """config.json of either form. Raises JudgeError where it is of something else; `path` is the spec's, for the message."""
    config = read_json(file, f"judge.path {path}")
    ranker = config.get("ranker_type") == "pairranker"
    hf = config.get("model_type") == "deberta-v2" and "n_tasks" in config and "ranker_type" not in config
    if not ranker and not hf:
        said = {name: config.get(name) for name in ("ranker_type", "model_type", "n_tasks")}
        raise JudgeError(
            f"judge.path {path}: config.json is not of a PairRM, got {said!r:.200}; it has model_type deberta-v2 and n_tasks "
            "(PairRM-hf), or ranker_type pairranker (PairRM). A reward model with one score is judge.kind reward_model"
        )
    tasks = config.setdefault("n_tasks", 1)
    if not isinstance(tasks, int) or tasks < 1:
        raise JudgeError(
            f"judge.path {path}: n_tasks in config.json is {tasks!r:.80}, not a number from 1; PairRM has 1"
        )
    return config


def read_json(file: Path, field: str) -> dict[str, Any]:
    """A JSON object; `field` names the setting and its value. Raises JudgeError."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JudgeError(f"{field}: {file.name} cannot be read: {error}; copy the checkpoint anew") from error
    if not isinstance(value, dict):
        raise JudgeError(f"{field}: {file.name} holds {type(value).__name__}, not an object; copy the checkpoint anew")
    return value


def backbone_of(spec: PairRMJudge, path: str, config: dict[str, Any]) -> str | None:
    """Folder or hub repository of the backbone: as the spec says, else in the checkpoint's folder or beside it; None for the
    form that needs none. Raises JudgeError where one is missing, or named though there is no use for it."""
    if "ranker_type" not in config:
        if spec.backbone is not None:
            raise JudgeError(
                f"judge.backbone {spec.backbone}: {spec.path} has DeBERTa's config and tokenizer of its own; leave it out"
            )
        return None
    if spec.backbone is not None:
        return spec.backbone
    name = str(config.get("model_name") or DEFAULT)
    last = Path(name).name
    for place in (Path(path) / last, Path(path).parent / last):
        if last not in ("", "..") and (place / "config.json").is_file():
            return str(place)
    raise JudgeError(
        f"judge.path {spec.path}: this form of PairRM has neither config nor tokenizer of its DeBERTa; set judge.backbone to "
        f"{name:.100} or to a folder with its config.json and tokenizer"
    )


def local_backbone(spec: PairRMJudge, folder: Path) -> Path | None:
    """The folder of the backbone of a checkpoint on this machine; None where it is on the hub or there is none."""
    named = backbone_of(spec, str(folder), read_config(folder / "config.json", spec.path))
    return Path(named) if named is not None and Path(named).is_dir() else None
