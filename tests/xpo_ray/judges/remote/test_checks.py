"""What is checked of a remote judge before a run, without sending anything; and what its digest and spec files hold."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from xpo_ray.errors import JudgeError
from xpo_ray.judges.checks import check_judge, judge_digest
from xpo_ray.spec import LlmJudge
from xpo_ray.spec.loading import absolute_paths

NOBODY = "http://127.0.0.1:9/v1"


def llm(**fields: object) -> LlmJudge:
    return LlmJudge.model_validate({"kind": "llm", "url": NOBODY, "model": "m", **fields})


def test_an_endpoint_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    check_judge(llm(), tmp_path)


def test_a_token_or_a_template_that_is_not_there_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_TOKEN", raising=False)
    with pytest.raises(JudgeError, match=r"judge\.token_env MY_TOKEN: this variable is not set"):
        check_judge(llm(token_env="MY_TOKEN"), tmp_path)
    with pytest.raises(JudgeError, match=r"judge\.template .*: cannot be read"):
        check_judge(llm(template=str(tmp_path / "none.txt")), tmp_path)


def test_the_digest_changes_with_the_address_and_with_what_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("{{prompt}} {{first}} {{second}} {{answer}}")
    made = {judge_digest(of, tmp_path) for of in (llm(), llm(url="http://x/v1"), llm(mode="scored"))}
    own = judge_digest(llm(template=str(file)), tmp_path)
    file.write_text("Now: {{prompt}} {{first}} {{second}} {{answer}}")
    assert len({*made, own, judge_digest(llm(template=str(file)), tmp_path)}) == 5
    assert judge_digest(llm(concurrency=3), tmp_path) in made


def test_a_template_is_looked_up_beside_the_spec_file(tmp_path: Path) -> None:
    raw = yaml.safe_load("judge: {kind: llm, template: ./mine.txt}")
    assert absolute_paths(raw, tmp_path)["judge"]["template"] == str(tmp_path / "mine.txt")


def test_opening_a_remote_judge_imports_no_torch_and_the_spec_no_httpx() -> None:
    program = """
import sys
from pathlib import Path
from xpo_ray.spec import HttpJudge
assert "httpx" not in sys.modules
from xpo_ray.judges import open_judge
open_judge(HttpJudge(kind="http", url="http://127.0.0.1:9/"), Path()).close()
print([name for name in ("torch", "transformers", "ray", "fastapi") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
