"""The factory, and what importing the judges costs."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from xpo_ray.judges import Comparison, Message, Response, open_judge
from xpo_ray.judges.python import PythonFunction
from xpo_ray.spec import PythonJudge


def test_a_python_judge_opens_from_its_spec_and_imports_no_torch(write: Callable[..., Path], tmp_path: Path) -> None:
    write("def score(prompt, responses): return [1.0 for _ in responses]")
    program = """
import sys
from pathlib import Path
from xpo_ray.judges import open_judge
from xpo_ray.spec import PythonJudge
open_judge(PythonJudge(kind="python", function="my_rewards:score"), Path(sys.argv[1])).close()
print([name for name in ("torch", "transformers", "ray", "fastapi") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_factory_gives_the_judge_of_the_kind(write: Callable[..., Path], tmp_path: Path) -> None:
    write("def score(prompt, responses): return [float(len(text)) for text in responses]")
    judge = open_judge(PythonJudge(kind="python", function="my_rewards:score"), tmp_path)
    assert isinstance(judge, PythonFunction)
    comparison = Comparison((Message(role="user", content="hi"),), (Response("a"), Response("bb")))
    assert judge.judge([comparison])[0].scores == (1.0, 2.0)
    judge.close()
