"""Implicit rewards by hand: β times the difference of log-probs, row by row, and against a second run."""

from pathlib import Path

import numpy as np
import pytest

from tests.xpo_ray.report import folders
from tests.xpo_ray.report.folders import attempt_in, judged_row, put_held_out, small_run
from xpo_ray.report.blocks import Figure, Note, Row, Section
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.sections.implicit import NO_PAIRS, implicit, implicit_rewards


def figures(section: Section) -> list[Figure]:
    return [f for block in section.blocks if isinstance(block, Row) for f in block.figures]


def notes(section: Section) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Note)]


def test_the_base_s_log_probs_are_taken_off_by_row_and_beta_multiplies(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        put_held_out(run.attempt, 0, [judged_row(0, chosen_logp=-5.0), judged_row(1, chosen_logp=-7.0)])
        rows = [judged_row(1, chosen_logp=-6.0, rejected_logp=-9.0, logp=-1.0), judged_row(0), judged_row(8)]
        put_held_out(run.attempt, 1, rows)
    rewards = implicit_rewards(RunFolder.open(tmp_path), 1)
    assert rewards["draws"].tolist() == [1.0, 0.5, 0.5]  # ½ · (−1 − −3), ½ · (−2 − −3)
    assert rewards["chosen"][:2].tolist() == [0.5, 0.5]
    assert rewards["rejected"][:2].tolist() == [-1.5, 0.0]
    assert np.isnan(rewards["chosen"][2])  # the base has not said what it thinks of row 8


def test_beta_is_that_of_the_iteration(tmp_path: Path) -> None:
    algorithm = {"kind": "selm", "beta": [0.5, 0.25], "alpha": 0.01}
    with attempt_in(tmp_path, algorithm=algorithm) as run:
        for t in range(3):
            put_held_out(run.attempt, t, [judged_row(0, logp=-1.0)])
    opened = RunFolder.open(tmp_path)
    assert [implicit_rewards(opened, t)["draws"].tolist() for t in (1, 2)] == [[1.0], [0.5]]  # β · (−1 − −3)


def test_chosen_rejected_draws_and_margins_are_drawn_for_each_iteration(tmp_path: Path) -> None:
    section = implicit(RunFolder.open(small_run(tmp_path)), None)
    drawn = {f.title: [(t["name"], t["y"]) for t in f.chart["data"]] for f in figures(section)}
    assert drawn["The dataset's chosen"] == [("iteration 1", [0.5] * 3), ("iteration 2", [1.0] * 3)]
    assert drawn["The dataset's rejected"] == [("iteration 1", [0.0] * 3), ("iteration 2", [0.0] * 3)]
    assert drawn["The model's own draws"][0][1] == [0.5, 0.55, 0.6]
    assert drawn["Margin of the pairs"][1][1] == [1.0] * 3
    assert notes(section) == []


def test_without_pairs_a_line_says_so_and_the_draws_are_still_drawn(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        for t in (0, 1):
            put_held_out(run.attempt, t, [judged_row(0, chosen_logp=None, rejected_logp=None)])
    section = implicit(RunFolder.open(tmp_path), None)
    assert [f.title for f in figures(section)] == ["The model's own draws"]
    assert notes(section) == [NO_PAIRS]


def test_without_a_later_model_a_line_says_why(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        assert notes(implicit(RunFolder.open(tmp_path), None)) == ["No evaluation has ended yet."]
        put_held_out(run.attempt, 0, [judged_row(0)])
        assert "Only the base" in notes(implicit(RunFolder.open(tmp_path), None))[0]


def test_the_difference_to_a_second_run_is_taken_prompt_by_prompt(tmp_path: Path) -> None:
    run = RunFolder.open(small_run(tmp_path / "a", gain=3.0))
    other = RunFolder.open(small_run(tmp_path / "b", gain=1.0, name="other"))
    pairs, own = figures(implicit(run, other))[-2:]
    assert pairs.title == "by-hand minus other, iteration 2: the dataset's pairs"
    assert [t["y"] for t in pairs.chart["data"]] == [[2.0] * 3, [0.0] * 3]  # ½ · 2 · (3 − 1), and nothing on rejected
    assert "+2 on the dataset's chosen" in pairs.reading
    assert own.chart["data"][0]["y"] == [0.0] * 3


def test_runs_that_do_not_compare_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder.open(small_run(tmp_path / "a"))
    with attempt_in(tmp_path / "base") as opened:
        for t in (0, 1):
            put_held_out(opened.attempt, t, [judged_row(i, chosen_logp=-9.0) for i in range(3)])
    assert "different bases" in notes(implicit(run, RunFolder.open(tmp_path / "base")))[-1]
    with attempt_in(tmp_path / "none"):
        pass
    assert "not evaluated the same iteration" in notes(implicit(run, RunFolder.open(tmp_path / "none")))[-1]
    monkeypatch.setattr(folders, "HELD_OUT_ID", "ffff0000")
    other = RunFolder.open(small_run(tmp_path / "b"))
    assert "not evaluated on the same held-out prompts" in notes(implicit(run, other))[-1]
