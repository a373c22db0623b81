"""The demo's world: disjoint prompts, pairs that leave the best manner out, and a judge that tells manners apart."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from xpo_ray.demo.judge import score
from xpo_ray.demo.recipes import ALGORITHMS, demo_spec
from xpo_ray.demo.styles import BEST, STYLES, style_of
from xpo_ray.demo.world import World, write_world
from xpo_ray.spec.loading import read_yaml, resolve


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


def answers(path: Path) -> list[tuple[str, str, str]]:
    """(prompt, chosen, rejected) of each row."""
    rows = pq.read_table(path).to_pylist()
    return [(r["prompt"], r["chosen"][-1]["content"], r["rejected"][-1]["content"]) for r in rows]


def test_no_prompt_stands_in_two_tables(world: World) -> None:
    tables = [set(pq.read_table(p)["prompt"].to_pylist()) for p in (world.train, world.evaluation, world.corpus)]
    assert all(tables)
    assert not tables[0] & tables[1]
    assert not tables[0] & tables[2]
    assert not tables[1] & tables[2]


def test_the_best_style_is_in_no_pair_and_rare_in_the_corpus(world: World) -> None:
    pairs = answers(world.train) + answers(world.evaluation)
    assert all(style_of(text) != BEST for _, chosen, rejected in pairs for text in (chosen, rejected))
    corpus = [turns[-1]["content"] for turns in pq.read_table(world.corpus)["messages"].to_pylist()]
    share = sum(style_of(text) == BEST for text in corpus) / len(corpus)
    assert 0.01 <= share <= 0.02


def test_the_judge_prefers_chosen_and_scores_the_best_style_highest(world: World) -> None:
    for prompt, chosen, rejected in answers(world.train)[:100]:
        better, worse = score([{"role": "user", "content": prompt}], [chosen, rejected])
        assert better > worse
    rows = pq.read_table(world.corpus).to_pylist()
    scored: dict[str, list[float]] = {}
    for row in rows:
        text = row["messages"][-1]["content"]
        scored.setdefault(style_of(text), []).extend(score(row["messages"][:-1], [text]))
    means = {style: sum(values) / len(values) for style, values in scored.items()}
    assert set(means) == {style.name for style in STYLES}
    assert max(means, key=lambda style: means[style]) == BEST


def test_the_same_seed_gives_the_same_files(world: World, tmp_path: Path) -> None:
    again = write_world(tmp_path)
    assert again.train.read_bytes() == world.train.read_bytes()
    assert write_world(tmp_path / "other", seed=1).train.read_bytes() != world.train.read_bytes()


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_specs_of_the_three_runs_are_valid_and_differ_in_the_algorithm_alone(name: str, tmp_path: Path) -> None:
    spec = resolve(demo_spec(name), (), tmp_path)
    assert spec.algorithm.kind == name
    assert spec.partitions == 3
    first = resolve(demo_spec("dpo"), (), tmp_path)
    assert spec.model_copy(update={"algorithm": first.algorithm, "name": "dpo", "output": first.output}) == first


def test_the_recipe_of_the_third_run_says_what_the_demo_does(tmp_path: Path) -> None:
    recipe = Path(__file__).resolve().parents[3] / "recipes" / "tiny-selm.yaml"
    written = resolve(read_yaml(recipe), (), tmp_path)
    run = resolve(demo_spec("selm"), (), tmp_path)
    assert written.model_copy(update={"name": "selm", "output": run.output}) == run
