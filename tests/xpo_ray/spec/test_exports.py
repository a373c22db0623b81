"""`exports` in a spec: known kinds, each at most once, and nothing that decides the result of a run."""

from typing import Any

import pytest

from xpo_ray.errors import SpecError
from xpo_ray.spec.base import decisive
from xpo_ray.spec.loading import parse_spec
from xpo_ray.spec.run import RunSpec


def spec(*exports: Any) -> RunSpec:
    return parse_spec(
        {
            "model": {"path": "owner/base"},
            "data": {"source": {"kind": "files", "path": "/train.parquet"}},
            "algorithm": {"kind": "dpo"},
            "output": {"path": "/out"},
            "exports": list(exports),
        }
    )


def test_trackers_stand_in_their_order_with_their_defaults() -> None:
    first, second = spec({"kind": "wandb", "project": "mine"}, {"kind": "tensorboard", "tags": ["a"]}).exports
    assert (first.kind, second.kind, second.tags) == ("wandb", "tensorboard", ("a",))
    assert first.timeout_s == 30.0
    assert spec().exports == ()


def test_exports_do_not_belong_to_a_runs_identity() -> None:
    assert decisive(spec({"kind": "wandb"})) == decisive(spec())


@pytest.mark.parametrize(
    ("export", "fault"),
    [
        ({"kind": "comet"}, r"exports\.0\.kind: unknown, got 'comet'; known are tensorboard, wandb, mlflow, trackio"),
        ({"kind": "wandb", "api_key": "x"}, r"exports\.0\.api_key: unknown key"),
        ({"kind": "trackio", "timeout_s": 0}, r"exports\.0\.timeout_s: should be greater than 0; got 0"),
        ({"kind": "trackio", "project": "../up"}, r"exports\.0\.project"),
    ],
)
def test_what_is_wrong_is_named(export: dict[str, Any], fault: str) -> None:
    with pytest.raises(SpecError, match=fault):
        spec(export)


def test_a_tracker_is_named_once() -> None:
    with pytest.raises(SpecError, match="exports: wandb is named more than once"):
        spec({"kind": "wandb"}, {"kind": "mlflow"}, {"kind": "wandb", "project": "other"})
