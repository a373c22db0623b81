"""The other sections: their numbers, and the one line where there are none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.xpo_ray.report.folders import attempt_in, evaluated, put_preferences, small_run, step
from xpo_ray.report.blocks import Figure, Note, Row, Samples, Section, Table, Tile, Tiles
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.sections import SECTIONS
from xpo_ray.report.sections.distributions import distributions
from xpo_ray.report.sections.headline import headline
from xpo_ray.report.sections.judging import judging
from xpo_ray.report.sections.provenance import provenance
from xpo_ray.report.sections.responses import responses
from xpo_ray.report.sections.reward import reward
from xpo_ray.report.sections.samples import samples
from xpo_ray.report.sections.throughput import throughput
from xpo_ray.report.sections.training import training
from xpo_ray.reporting import ActorReplaced, RunFinished, RunStarted, ShardDone, Warned


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder.open(small_run(tmp_path_factory.mktemp("run")))


def figures(section: Section) -> dict[str, Figure]:
    rows = [b.figures if isinstance(b, Row) else (b,) for b in section.blocks if isinstance(b, Row | Figure)]
    return {figure.title: figure for row in rows for figure in row}


def tiles(section: Section) -> dict[str, Tile]:
    return {tile.label: tile for block in section.blocks if isinstance(block, Tiles) for tile in block.tiles}


def tables(section: Section) -> list[Table]:
    return [block for block in section.blocks if isinstance(block, Table)]


def notes(section: Section) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Note)]


@pytest.mark.parametrize("make", SECTIONS, ids=lambda make: make.__name__)
def test_a_run_that_has_just_begun_has_every_section_and_says_what_is_missing(
    make: Callable[[RunFolder, RunFolder | None], Section], tmp_path: Path
) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(RunStarted("run_x", 1, 2, 4))
        section = make(RunFolder.open(tmp_path), None)
    assert section.title
    assert figures(section) == {}
    assert section.blocks
    assert all("\n" not in text for text in notes(section))


def test_an_attempt_without_a_journal_yet_still_makes_a_report(tmp_path: Path) -> None:
    with attempt_in(tmp_path):
        run = RunFolder.open(tmp_path)
        made = [section for make in SECTIONS if (section := make(run, None)) is not None]
    assert made
    assert all(section.title and section.blocks for section in made)


def test_the_headline_tells_status_reward_gain_work_and_waste(finished: RunFolder) -> None:
    section = headline(finished, None)
    told = tiles(section)
    assert section.lead == "The run has succeeded."
    assert (told["Held-out reward"].value, told["Held-out reward"].detail) == (
        "3",
        "95 %: 2 to 4; after iteration 2; base 1",
    )
    assert (told["Gain over the base"].value, told["Gain over the base"].tone) == ("+2", "good")
    assert told["Wins against the base"].value == "75.0\u00a0%"
    assert told["Optimizer steps"].detail == "of 4 planned, 2 iterations"
    assert (told["Resumes"].value, told["Resumes"].detail) == ("0", "no step was done twice")
    assert told["Tier"].value == "exact"


def test_a_failure_and_its_waste_stand_in_the_headline(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(RunStarted("run_x", 1, 2, 4), step(1))
    with attempt_in(tmp_path, resume=True) as run:
        run.tell(RunStarted("run_x", 2, 2, 4), step(1, replayed=True), RunFinished("failed", 1.0, 1, error="Boom: <b>"))
    section = headline(RunFolder.open(tmp_path), None)
    assert "has failed" in section.lead
    assert notes(section) == ["Boom: <b>"]
    assert tiles(section)["Resumes"].detail == "1 step done twice"


def test_reward_is_drawn_with_intervals_from_the_base_on(finished: RunFolder) -> None:
    section = reward(finished, None)
    (line,) = figures(section)["Held-out reward"].chart["data"]
    assert (line["x"], line["y"]) == ([0, 1, 2], [1, 2, 3])
    assert line["error_y"]["array"] == line["error_y"]["arrayminus"] == [1, 1, 1]
    assert [t["x"] for t in figures(section)["Win rate"].chart["data"]] == [[1, 2], [1, 2]]
    assert tables(section)[0].rows[0][:4] == ("0 (base)", "1.00", "0.00 to 2.00", "–")


def test_the_second_run_s_reward_is_drawn_beside(finished: RunFolder, tmp_path: Path) -> None:
    other = RunFolder.open(small_run(tmp_path, name="other"))
    names = [t["name"] for t in figures(reward(finished, other))["Held-out reward"].chart["data"]]
    assert names == ["by-hand", "other (other run)"]


def test_a_judge_that_compares_without_scores_has_win_rates_and_a_line_that_says_so(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(*(evaluated(t, None) for t in (0, 1)))
        section = reward(RunFolder.open(tmp_path), None)
    assert list(figures(section)) == ["Win rate"]
    assert "compares them" in notes(section)[0]


def test_reward_without_held_out_prompts_or_judge_says_so(tmp_path: Path) -> None:
    data = {"source": {"kind": "files", "path": "./train.parquet"}, "partitions": 2}
    with attempt_in(tmp_path / "prompts", data=data):
        assert "names no held-out prompts" in notes(reward(RunFolder.open(tmp_path / "prompts"), None))[0]
    with attempt_in(tmp_path / "judge", algorithm={"kind": "dpo"}, judge=None) as run:
        run.tell(evaluated(0, None))
        assert "names no judge" in notes(reward(RunFolder.open(tmp_path / "judge"), None))[0]


def test_distributions_show_each_iteration_and_the_dataset_s_pairs(finished: RunFolder) -> None:
    drawn = figures(distributions(finished, None))
    held_out, candidates = (drawn[t].chart["data"] for t in ("Held-out responses", "Training candidates"))
    assert [t["name"] for t in held_out[::2]] == ["base", "iteration 1", "iteration 2"]
    assert [t["x"] for t in held_out[1::2]] == [[1.0], [2.0], [3.0]]
    assert [t["name"] for t in candidates[::2]] == ["draws, it. 1", "draws, it. 2", "chosen", "rejected"]
    assert [t["x"] for t in candidates[1::2]] == [[0.75], [1.5], [2.5], [0.5]]
    assert "From 6 of 6 prompts." in drawn["Training candidates"].reading


def test_pairs_that_were_taken_as_given_have_no_distribution(tmp_path: Path) -> None:
    with attempt_in(tmp_path, algorithm={"kind": "dpo"}, judge=None) as run:
        put_preferences(run.attempt, 1, [None, None])
    assert "taken as given" in notes(distributions(RunFolder.open(tmp_path), None))[1]


def test_kl_is_drawn_with_its_interval_and_its_absence_explained(finished: RunFolder, tmp_path: Path) -> None:
    k1, _ = figures(responses(finished, None))["KL to the base"].chart["data"]
    assert k1["y"] == [0, 0.2, 0.4]
    assert k1["error_y"]["array"] == pytest.approx([0.0196] * 3)
    greedy = tmp_path / "greedy"
    with attempt_in(greedy, evaluation={"decoding": "greedy"}) as run:
        run.tell(evaluated(0, 1.0, **{"kl/k1": None, "kl/k3": None}))
    assert "greedily" in notes(responses(RunFolder.open(greedy), None))[0]
    held_back = tmp_path / "held back"
    with attempt_in(held_back, sampling={"min_new_tokens": 2}) as run:
        run.tell(evaluated(0, 1.0, **{"kl/k1": None, "kl/k3": None}))
    assert "at least 2 tokens" in notes(responses(RunFolder.open(held_back), None))[0]


def test_a_mean_log_ratio_is_drawn_under_its_own_name_where_it_is_no_kl(tmp_path: Path) -> None:
    with attempt_in(tmp_path, sampling={"temperature": 0.7}) as run:
        run.tell(step(1, **{"log_ratio/reference_draws": 0.5}))
    section = training(RunFolder.open(tmp_path), None)
    assert "KL within the iteration" not in figures(section)
    assert figures(section)["Log-ratio on draws"].chart["data"][0]["y"] == [0.5]
    assert "another temperature than 1" in notes(section)[-1]


TIED = {"pairs": 0.0, "tie_rate": 1.0, "no_pair/one_score": 8.0, "skipped": 1.0}


def test_a_run_without_any_pair_says_first_that_nothing_was_learned_and_why(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(RunStarted("run_x", 1, 2, 4), step(1, **TIED), step(2, **TIED))
    section = headline(RunFolder.open(tmp_path), None)
    first = section.blocks[0]
    assert isinstance(first, Note)
    assert first.tone == "bad"
    assert tiles(section)["Optimizer steps"].detail == "of 4 planned, 2 iterations; 2 skipped"
    assert first.text.startswith(
        "Nothing was learned from preferences: none of the 2 windows had a pair, and they took no "
    )
    assert "one and the same score to every response of every prompt: it is constant (16 prompts)" in first.text


def test_some_windows_without_a_pair_are_told_without_alarm_and_warnings_stand_beside_them(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(RunStarted("run_x", 1, 2, 4), step(1, **TIED), step(2), step(3))
        run.tell(Warned("empty_draws", "the first 8 draws are all empty"), Warned("odd", "something else"))
    first, second = headline(RunFolder.open(tmp_path), None).blocks[:2]
    assert isinstance(first, Note)
    assert (first.tone, first.text.split(".")[0]) == ("", "1 of 3 windows had no pair and took no optimizer step")
    assert second == Note("the first 8 draws are all empty", "bad")


def test_a_run_whose_windows_all_have_pairs_begins_with_its_numbers(finished: RunFolder) -> None:
    assert isinstance(headline(finished, None).blocks[0], Tiles)


def test_training_marks_replayed_steps_and_the_borders_of_iterations(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(step(1, loss=0.7), step(2, loss=0.6), step(2, loss=0.5, replayed=True), step(3, iteration=2, loss=0.4))
    chart = figures(training(RunFolder.open(tmp_path), None))["Loss"].chart
    assert chart["data"][0]["y"] == [0.7, 0.5, 0.4]
    assert (chart["data"][-1]["name"], chart["data"][-1]["x"], chart["data"][-1]["y"]) == ("replayed", [2], [0.5])
    assert [s["x0"] for s in chart["layout"]["shapes"]] == [2.5]


def test_training_without_bonus_or_draws_says_so(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(step(1, kappa=0.0))
    section = training(RunFolder.open(tmp_path), None)
    assert "Exploration κ" not in figures(section)
    assert ["κ is 0" in text or "No KL" in text for text in notes(section)] == [True, True]


def test_rates_are_over_the_time_in_which_a_stage_was_busy(finished: RunFolder) -> None:
    section = throughput(finished, None)
    rows = {row[0]: row[1:] for row in tables(section)[0].rows}
    assert list(rows) == ["draw", "judge", "reference log-probs", "train", "evaluation"]
    assert [rows[s][2] for s in rows] == ["16", "16", "16", "32", "9"]
    assert rows["draw"][4] == "160"
    assert rows["judge"][4] == "112"  # 7 tokens of candidates a prompt
    assert rows["reference log-probs"][4] == "80"  # as train: 40 tokens a step of 8 prompts
    assert list(figures(section)) == ["Time line"]


def test_lost_prompts_are_counted_with_their_reasons(finished: RunFolder) -> None:
    section = judging(finished, None)
    data, outcomes, reasons = tables(section)
    assert data.rows[0] == ("training", "20", "16", "1", "3", "0", "2")
    assert outcomes.rows[0] == ("1", "8", "6", "1", "1", "1", "1")
    assert reasons.rows == (("the judge fell asleep", "2"),)
    bars = {t["name"]: t["y"] for t in figures(section)["Outcomes"].chart["data"]}
    assert bars == {"pairs": [6, 6], "ties": [1, 1], "dropped": [0, 0], "judge failed": [1, 1]}


def test_what_only_some_judges_count_has_a_column_where_it_was_counted(finished: RunFolder, tmp_path: Path) -> None:
    assert "asked the dear judge" not in tables(judging(finished, None))[1].head
    with attempt_in(tmp_path) as run:
        run.tell(RunStarted("run_x", 1, 2, 4))
        run.tell(ShardDone(1, 0, "preferences", 8, 0.1, True, {"prompts": 8.0, "asked_dear": 3.0, "disagreed": 2.0}))
        run.tell(ShardDone(1, 1, "preferences", 8, 0.1, True, {"prompts": 8.0, "asked_dear": 1.0, "disagreed": 0.0}))
        run.tell(ShardDone(2, 0, "preferences", 8, 0.1, True, {"prompts": 8.0, "asked_dear": 0.0, "disagreed": 0.0}))
    (outcomes,) = tables(judging(RunFolder.open(tmp_path), None))
    assert outcomes.head[-2:] == ("members disagreed", "asked the dear judge")
    assert [row[-2:] for row in outcomes.rows] == [("2", "4"), ("0", "0")]


def test_samples_stand_side_by_side_by_prompt(finished: RunFolder) -> None:
    (block,) = samples(finished, None).blocks
    assert isinstance(block, Samples)
    assert [g.prompt for g in block.groups] == [(("user", f"Question {i}?"),) for i in range(3)]
    assert [s.model for s in block.groups[0].samples] == ["base", "iteration 1", "iteration 2"]
    assert [s.score for s in block.groups[1].samples] == [1.0, 2.0, 3.0]
    assert block.groups[1].gain == 2.0


def test_provenance_lists_attempts_warnings_versions_and_the_spec(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(RunStarted("run_x", 1, 2, 4), Warned("odd", "look at this"), ActorReplaced("judge", 1, "killed"))
    with attempt_in(tmp_path, resume=True) as run:
        run.tell(RunStarted("run_x", 2, 2, 4))
        section = provenance(RunFolder.open(tmp_path), None)
    attempts, events, versions = tables(section)
    assert [(row[0], row[2]) for row in attempts.rows] == [("1", "killed"), ("2", "running")]
    assert [row[2:] for row in events.rows] == [
        ("warning: odd", "look at this"),
        ("judge replaced", "killed (1 restart)"),
    ]
    assert "torch" in {row[0] for row in versions.rows}
    assert "kind: selm" in section.blocks[-1].text  # type: ignore[union-attr]


def test_what_a_remote_judge_has_taken_is_added_up_by_iteration_and_over_all(tmp_path: Path) -> None:
    taken = {"judge_requests": 1000.0, "judge_retries": 2.0, "judge_input_tokens": 5e6, "judge_cost": 0.25}
    with attempt_in(tmp_path) as run:
        run.tell(RunStarted("run_x", 1, 2, 4))
        for t, stage in ((0, "held-out"), (1, "preferences"), (1, "held-out"), (2, "preferences")):
            run.tell(ShardDone(t, 0, stage, 8, 1.0, fresh=True, counts=taken))
        run.tell(ShardDone(1, 0, "preferences", 8, 0.0, fresh=False, counts={}))
    (calls,) = [t for t in tables(judging(RunFolder.open(tmp_path), None)) if "cost" in t.head]
    assert calls.head == ("iteration", "requests to the judge", "of which again", "tokens sent", "cost")
    assert calls.rows == (
        ("0", "1,000", "2", "5,000,000", "0.2500"),
        ("1", "2,000", "4", "10,000,000", "0.5000"),
        ("2", "1,000", "2", "5,000,000", "0.2500"),
        ("all", "4,000", "8", "20,000,000", "1"),
    )


@pytest.mark.parametrize(("status", "said"), [("paused", "is paused"), ("cancelled", "was cancelled")])
def test_a_run_that_paused_or_was_cancelled_says_so_and_why(tmp_path: Path, status: str, said: str) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(RunStarted("run_x", 1, 2, 4), RunFinished(status, 1.0, 0, error="the judge is away"))
    folder = RunFolder.open(tmp_path)
    assert said in headline(folder, None).lead
    assert any(
        ("the judge is away" in cell) for t in tables(provenance(folder, None)) for row in t.rows for cell in row
    )
