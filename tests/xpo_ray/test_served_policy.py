"""A policy that an engine draws for: which version it serves, and none behind a hand-over that failed; with an adapter the
base beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_model_folder
from xpo_ray.adapters import Adapter, read_adapter
from xpo_ray.algorithms import Draw
from xpo_ray.chat import Chat
from xpo_ray.generation.engine import DrawContext, Drawn, Sampling
from xpo_ray.logprobs import PromptGroup
from xpo_ray.policy import Policy
from xpo_ray.served_policy import ServedPolicy
from xpo_ray.spec import RunSpec
from xpo_ray.spec.data import LoraSpec

GROUPS = [PromptGroup([5, 6, 7], ([8, 9, 10],))]


class FailsOnce:
    """An engine whose first hand-over of weights by folder ends half-way."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, path: str | Path, revision: str | None = None) -> None:  # noqa: ARG002
        self.loaded.append(str(path))
        if len(self.loaded) == 1:
            raise RuntimeError("half of the weights are there")


class TakesAdapters:
    """An engine that keeps what it was given, and draws the version that it is asked for as a token."""

    def __init__(self) -> None:
        self.given: list[dict[str, Tensor] | None] = []

    def adapt(self, folder: str | Path | None) -> None:
        self.given.append(None if folder is None else read_adapter(folder))

    def draw(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],  # noqa: ARG002
        sampling: Sampling,  # noqa: ARG002
        *,
        adapted: bool = True,
    ) -> list[Drawn]:
        return [Drawn((7 if adapted else 5,), False)] * len(prompts)


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


def test_with_an_adapter_the_base_is_drawn_from_and_scored_beside_it(spec: RunSpec) -> None:
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"lora": LoraSpec(rank=2, rslora=True)})})
    chat = Chat.load(spec.model.path, None, spec.model.chat_template)
    engine = TakesAdapters()
    served, plain = ServedPolicy(spec, chat, lambda *_: engine), Policy(spec, chat)  # type: ignore[arg-type, return-value]
    assert spec.model.lora is not None
    shapes = {n: p.shape for n, p in Adapter(spec.model, spec.model.lora).parameters.items()}
    weights = {n: torch.randn(s, generator=torch.Generator().manual_seed(1)) for n, s in shapes.items()}
    for each in (served, plain):
        each.load(spec.model.path, 0)
        each.take(weights, 1)
    assert engine.given[0] is None
    assert engine.given[1] is not None
    assert all(torch.equal(engine.given[1][n], t) for n, t in weights.items())
    assert served.logps(GROUPS, 0) == plain.logps(GROUPS, 0)
    assert served.logps(GROUPS, 1) == plain.logps(GROUPS, 1) != plain.logps(GROUPS, 0)
    assert [_drawn(served, version) for version in (0, 1)] == [(5, 0), (7, 1)]
    with pytest.raises(RuntimeError, match="asked for policy version 2, these weights are version 1"):
        served.logps(GROUPS, 2)


def _drawn(served: ServedPolicy, version: int) -> tuple[int, int]:
    """The token that was drawn, and the version that the candidate names."""
    shard = pa.table({"row": [0], "prompt_ids": [[5, 6]]})
    work = [(shard, DrawContext(0, "policy", 1, version))]
    [[made]] = served.draw(work, Draw("policy"), Sampling(1.0, 1.0, None, 4))
    return made["ids"][0], made["version"]
