"""ModelSpec: the arguments of the chat template."""

from pathlib import Path
from typing import Any

import pytest

from tests.running import tiny_world, write_spec
from xpo_ray.errors import SpecError
from xpo_ray.spec.base import decisive
from xpo_ray.spec.data import ModelSpec
from xpo_ray.spec.loading import load_spec


def test_arguments_of_the_template_decide_the_result_and_are_nothing_where_there_are_none() -> None:
    assert "template_arguments" not in decisive(ModelSpec(path="m"))
    asked = ModelSpec(path="m", template_arguments={"enable_thinking": False})
    assert decisive(asked)["template_arguments"] == {"enable_thinking": False}


def test_they_are_read_from_yaml_and_from_set(tmp_path: Path) -> None:
    raw = tiny_world(tmp_path, prompts=8, held_out=4)
    raw["model"]["template_arguments"] = {"enable_thinking": False, "date": "1 May 2026", "tools": [1, None]}
    spec = load_spec(write_spec(tmp_path, raw), ["model.template_arguments.enable_thinking=true"])
    assert spec.model.template_arguments == {"enable_thinking": True, "date": "1 May 2026", "tools": [1, None]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"messages": []}, "template_arguments.messages: not a name for an argument"),
        ({"enable thinking": True}, "template_arguments.enable thinking: not a name"),
        ({"tokenize": True}, "such as enable_thinking"),
        ("enable_thinking", "template_arguments"),
    ],
)
def test_names_that_are_no_arguments_are_refused(tmp_path: Path, arguments: Any, said: str) -> None:
    raw = tiny_world(tmp_path, prompts=8, held_out=4)
    raw["model"]["template_arguments"] = arguments
    with pytest.raises(SpecError, match=said):
        load_spec(write_spec(tmp_path, raw))


def test_plain_has_no_template_to_give_arguments_to(tmp_path: Path) -> None:
    raw = tiny_world(tmp_path, prompts=8, held_out=4)
    raw["model"] |= {"template_arguments": {"enable_thinking": False}, "chat_template": "plain"}
    with pytest.raises(SpecError, match="plain has no template"):
        load_spec(write_spec(tmp_path, raw))
