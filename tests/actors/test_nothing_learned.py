"""Whole runs in which no window has a pair: skipped steps, warnings, the pause, and what a resume goes on with."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.actors.conftest import Heard, World
from tests.running import write_spec
from xpo_ray.actors.driver import run_foreground
from xpo_ray.errors import NothingLearned
from xpo_ray.preparation import prepare
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.sections.headline import headline
from xpo_ray.reporting import RunFinished, StepDone, Warned
from xpo_ray.spec.loading import load_spec

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

CONSTANT = "def score(prompt, responses):\n    return [0 for _ in responses]\n"


@pytest.fixture(scope="module")
def constant(world: World) -> dict[str, Any]:
    """The world's SELM without evaluation, under a judge that always says 0: two iterations of 3 windows of 8."""
    (world.folder / "constant.py").write_text(CONSTANT)
    data = {k: v for k, v in world.raw["data"].items() if k != "evaluation"}
    return {**world.raw, "judge": {"kind": "python", "function": "constant:score"}, "data": data}


def attempted(
    world: World, raw: dict[str, Any], name: str, most: int, *, resume: bool = False
) -> tuple[Heard, Exception | None]:
    """One attempt that may pause."""
    spec = load_spec(
        write_spec(world.folder, raw, f"{name}.yaml"),
        [f"output.path=./{name}", f"training.max_windows_without_pairs={most}"],
    )
    heard = Heard()
    try:
        run_foreground(prepare(spec, world.folder), resume=resume, reporter=heard)
    except NothingLearned as error:
        return heard, error
    return heard, None


def ledger(root: Path) -> list[tuple[int, int, bool, bool]]:
    paths = sorted((root / "attempts").glob("*/ledger.jsonl"))
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return [(row["iteration"], row["step"], row["skipped"], row["replay"]) for row in rows]


def test_a_constant_judge_is_warned_of_pauses_the_run_and_each_resume_counts_anew(
    world: World, constant: dict[str, Any]
) -> None:
    root = world.folder / "constant"
    heard, error = attempted(world, constant, "constant", 2)
    assert "the judge gave one and the same score to every response" in str(error)
    assert [w.code for w in heard.of(Warned)].count("no_pairs") == 1
    assert [(s.step, s.metrics["skipped"]) for s in heard.of(StepDone)] == [(1, 1.0), (2, 1.0)]
    [finished] = heard.of(RunFinished)
    assert (finished.status, finished.error) == ("paused", str(error))

    heard, error = attempted(world, constant, "constant", 2, resume=True)
    assert error is not None
    assert [(s.iteration, s.step, s.replayed) for s in heard.of(StepDone)] == [(1, 3, False), (2, 1, False)]
    heard, error = attempted(world, constant, "constant", 0, resume=True)
    assert error is None
    assert ledger(root) == [(t, s, True, False) for t in (1, 2) for s in (1, 2, 3)]
    assert "nothing_learned" in [w.code for w in heard.of(Warned)]

    before, after = (load_file(folder / "model.safetensors") for folder in (world.folder / "base", root / "model"))
    assert all(after[name].equal(tensor) for name, tensor in before.items() if name in after)
    first = headline(RunFolder.open(root), None).blocks[0]
    assert "none of the 6 windows had a pair, and they took no optimizer step" in first.text  # type: ignore[union-attr]


def test_the_bonus_trains_alone_where_it_is_asked_to(world: World, constant: dict[str, Any]) -> None:
    raw = {**constant, "training": {**constant["training"], "bonus_without_pairs": True}}
    raw["data"] = {**raw["data"], "partitions": 1, "source": {**raw["data"]["source"], "limit": 16}}
    heard, error = attempted(world, raw, "alone", 0)
    assert error is None
    assert [s.metrics["skipped"] for s in heard.of(StepDone)] == [0.0, 0.0]
    assert all(s.metrics["loss"] == s.metrics["loss/bonus"] != 0.0 for s in heard.of(StepDone))
    assert not any(skipped for _, _, skipped, _ in ledger(world.folder / "alone"))
