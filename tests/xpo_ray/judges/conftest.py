"""What the tests of the judges share: the user's module beside a spec file, and judges that are ended after the test."""

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xpo_ray.judges.python import PythonFunction
from xpo_ray.spec import PythonJudge


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a module of the user's, by default my_rewards.py, into the folder of the spec file."""

    def write_module(source: str, name: str = "my_rewards.py") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
        return file

    return write_module


@pytest.fixture
def judging(write: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., PythonFunction]]:
    """A judge from the source of its module and the settings of its spec."""
    opened: list[PythonFunction] = []

    def open_from(source: str, **settings: Any) -> PythonFunction:
        write(source)
        spec = PythonJudge(kind="python", function="my_rewards:score", **settings)
        opened.append(PythonFunction(spec, tmp_path))
        return opened[-1]

    yield open_from
    for judge in opened:
        judge.close()
