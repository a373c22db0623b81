"""A policy that an engine draws for: which version it serves, and none behind a hand-over that failed."""

from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_model_folder
from xpo_ray.chat import Chat
from xpo_ray.logprobs import PromptGroup
from xpo_ray.policy import Policy
from xpo_ray.served_policy import ServedPolicy
from xpo_ray.spec import RunSpec

GROUPS = [PromptGroup([5, 6, 7], ([8, 9, 10],))]


class FailsOnce:
    """An engine whose first hand-over of weights by folder ends half-way."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, path: str | Path, revision: str | None = None) -> None:  # noqa: ARG002
        self.loaded.append(str(path))
        if len(self.loaded) == 1:
            raise RuntimeError("half of the weights are there")


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    raw: dict[str, Any] = {
        "name": "served",
        "model": {"path": str(tiny_model_folder(tmp_path / "zero"))},
        "data": {"source": {"kind": "files", "path": "./none.parquet"}, "partitions": 1},
        "algorithm": {"kind": "selm"},
        "judge": {"kind": "python", "function": "any:score"},
        "output": {"path": "./out"},
    }
    return RunSpec.model_validate(raw)


def test_log_probs_are_those_of_the_version_that_is_served(spec: RunSpec, tmp_path: Path) -> None:
    chat = Chat.load(spec.model.path, None, spec.model.chat_template)
    other = tiny_model_folder(tmp_path / "one", seed=1)
    served, plain = ServedPolicy(spec, chat, lambda *_: FailsOnce()), Policy(spec, chat)  # type: ignore[arg-type, return-value]
    for version, path in enumerate((spec.model.path, str(other))):
        plain.load(path, version)
        if version == 0:
            served.load(path, version)
        else:
            with pytest.raises(RuntimeError, match="half of the weights"):
                served.load(path, version)
            for asked in (0, 1):
                with pytest.raises(
                    RuntimeError, match=f"asked for policy version {asked}, these weights are version None"
                ):
                    served.logps(GROUPS, asked)
            served.load(path, version)
        assert served.logps(GROUPS, version) == plain.logps(GROUPS, version)
