"""What a judge's own time limits let a shard take."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from xpo_ray.spec.judge import JudgeSpec

PYTHON = {"kind": "python", "function": "vowels:score", "timeout_s": 10.0, "retries": 2}


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        (PYTHON, 3 * 8 * 10.0),
        ({**PYTHON, "retries": 0}, 8 * 10.0),
        ({**PYTHON, "batched": True}, (3 + 8) * 10.0),
        ({"kind": "reward_model", "path": "./reward"}, 0.0),
    ],
)
def test_every_try_of_every_prompt_may_run_into_its_limit(raw: dict[str, Any], seconds: float) -> None:
    judge = TypeAdapter[JudgeSpec](JudgeSpec).validate_python(raw)
    assert judge.longest_s(8) == seconds
