"""The recipes: each is a valid spec, names its sources, differs from the others as its comments say, and reads its data."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import END, tiny_model_folder, tiny_pairs, write_parquet
from tests.xpo_ray.judges.pairrm.worlds import ranker_folder
from xpo_ray.algorithms import algorithm_row, reference_version, row_of_iteration
from xpo_ray.demo.recipes import real_spec
from xpo_ray.plan import plan
from xpo_ray.plan.work import iterations
from xpo_ray.preparation import prepare, schedule_of
from xpo_ray.rates import learning_rate
from xpo_ray.spec import RunSpec, at_iteration, load_spec
from xpo_ray.spec.loading import resolve

RECIPES = Path(__file__).parents[3] / "recipes"
ULTRAFEEDBACK = 61_135
PAPERS = (
    "zephyr-7b-selm",
    "zephyr-7b-iterative-dpo",
    "llama-3-8b-selm",
    "llama-3-8b-iterative-dpo",
    "phi-3-selm",
    "online-rlhf-k8",
    "xpo-llama-3-8b",
    "sppo-mistral-7b",
)


def recipe(name: str, *overrides: str) -> RunSpec:
    return load_spec(RECIPES / f"{name}.yaml", overrides)


def kappas(spec: RunSpec) -> list[float]:
    return [at_iteration(row_of_iteration(spec.algorithm, t).kappa, t) for t in range(1, (spec.partitions or 0) + 1)]


def peaks(spec: RunSpec, prompts: int) -> list[float]:
    """The highest learning rate of each iteration."""
    schedule = schedule_of(spec, prompts)
    steps = {t: range(1, schedule.steps(t) + 1) for t in range(1, schedule.partitions + 1)}
    return [max(learning_rate(spec, schedule, t, step) for step in steps[t]) for t in steps]


def differences(one: Any, other: Any, where: str = "") -> set[str]:
    """Paths of the fields in which two specs differ."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return set() if one == other else {where}
    keys = one.keys() | other.keys()
    return set().union(*(differences(one.get(k), other.get(k), f"{where}.{k}".lstrip(".")) for k in keys))


def between(one: str, other: str) -> set[str]:
    """In what two recipes differ, but for their names."""
    found = differences(recipe(one).model_dump(), recipe(other).model_dump())
    return found - {"name", "output.path"}


def accelerated_steps(rows: int, per_gpu: int, accumulated: int, gpus: int = 8) -> int:
    """Steps of an epoch in the Trainer of transformers, which drops the last, incomplete accumulation."""
    return math.ceil(math.ceil(rows / per_gpu) / gpus) // accumulated


def test_every_recipe_of_a_paper_is_looked_at_here() -> None:
    assert {file.stem for file in RECIPES.glob("*.yaml")} == {*PAPERS, "tiny-selm", "smollm2-selm"}


def test_the_recipe_of_smollm2_is_the_demo_on_other_data() -> None:
    raw = real_spec(Path("HuggingFaceTB/SmolLM2-135M-Instruct"))
    own = resolve(raw, (), RECIPES).model_dump()
    places = {"name", "output.path"}
    assert differences(recipe("smollm2-selm").model_dump(), own) == places


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_is_planned_without_a_network_and_says_what_is_unknown(name: str) -> None:
    spec = recipe(name)
    made = plan(spec)
    assert (spec.name, Path(spec.output.path)) == (name, RECIPES / name)
    assert made.parameters is None
    assert made.evaluation_prompts == 2000
    assert any(f"{spec.model.path} is a hub repository" in note for note in made.notes)
    assert {role.role for role in made.roles if not role.unknown} == {"clerk", "driver"}
    assert made.refusals == ()


@pytest.mark.parametrize("name", [name for name in PAPERS if "iterative-dpo" not in name])
def test_every_setting_of_a_recipe_has_its_source_beside_it(name: str) -> None:
    settings = re.compile(r" *(?!name|kind|output|resources)[a-z_]+: +[^# ]")
    lines = [line for line in (RECIPES / f"{name}.yaml").read_text().splitlines() if settings.match(line)]
    assert len(lines) > 20
    assert [line for line in lines if not re.search(r"# .*\[[^]]+\]", line)] == []


@pytest.mark.parametrize("name", ["zephyr-7b-iterative-dpo", "llama-3-8b-iterative-dpo"])
def test_a_baseline_names_the_recipe_that_has_the_sources(name: str) -> None:
    assert name.replace("iterative-dpo", "selm.yaml") in (RECIPES / f"{name}.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "kappa"),
    [
        ("zephyr-7b-selm", [0.0, 1e-5, 1e-5, 1e-5]),
        ("llama-3-8b-selm", [1e-6] * 3),
        ("phi-3-selm", [1e-5] * 3),
        ("xpo-llama-3-8b", [1e-5, 5e-6, 0.0]),
        ("zephyr-7b-iterative-dpo", [0.0] * 4),
        ("llama-3-8b-iterative-dpo", [0.0] * 3),
        ("online-rlhf-k8", [0.0] * 3),
        ("sppo-mistral-7b", [0.0] * 3),
    ],
)
def test_kappa_of_each_iteration_is_that_of_the_source(name: str, kappa: list[float]) -> None:
    assert kappas(recipe(name)) == pytest.approx(kappa)


@pytest.mark.parametrize(
    ("name", "partitions", "rates", "steps", "authors_steps"),
    [
        ("zephyr-7b-selm", [15_284] * 3 + [15_283], [5e-7, 5e-7, 5e-7, 1e-7], 59, accelerated_steps(15_283, 8, 4)),
        ("llama-3-8b-selm", [20_379] + [20_378] * 2, [5e-7, 3e-7, 1e-7], 159, accelerated_steps(20_378, 4, 4)),
        ("phi-3-selm", [20_379] + [20_378] * 2, [5e-7, 3e-7, 1e-7], 159, accelerated_steps(20_378, 4, 4)),
    ],
)
def test_selms_iterations_have_the_papers_rates_and_the_codes_steps(
    name: str, partitions: list[int], rates: list[float], steps: int, authors_steps: int
) -> None:
    spec = recipe(name)
    work = iterations(spec, ULTRAFEEDBACK)
    assert [w.prompts for w in work] == partitions
    assert [w.steps for w in work] == [steps] * len(partitions)
    assert steps == authors_steps
    assert peaks(spec, ULTRAFEEDBACK) == pytest.approx(rates)
    assert plan(spec).steps == steps * len(partitions)


def test_zephyr_has_a_pass_of_dpo_before_selm_whose_reference_moves_on() -> None:
    spec = recipe("zephyr-7b-selm")
    assert [w.kind for w in iterations(spec, ULTRAFEEDBACK)] == ["dpo", "selm", "selm", "selm"]
    rows = [row_of_iteration(spec.algorithm, t) for t in range(1, 5)]
    assert [reference_version(row, t, 1) for t, row in enumerate(rows, start=1)] == [0, 1, 2, 3]
    assert [[draw.decoding for draw in row.draws] for row in rows] == [[], ["greedy"], ["greedy"], ["greedy"]]


def test_the_baselines_differ_from_selm_in_the_bonus_alone() -> None:
    bonus = {"algorithm.kind", "algorithm.alpha", "algorithm.bonus_scale"}
    for model in ("zephyr-7b", "llama-3-8b"):
        assert between(f"{model}-selm", f"{model}-iterative-dpo") == bonus


def test_phi_differs_from_llama_in_the_model_and_in_alpha() -> None:
    assert between("phi-3-selm", "llama-3-8b-selm") == {"model.path", "model.end_of_turn", "algorithm.alpha"}
    assert kappas(recipe("phi-3-selm")) == pytest.approx([10 * k for k in kappas(recipe("llama-3-8b-selm"))])


def test_online_rlhf_ranks_eight_draws_and_starts_each_iteration_anew() -> None:
    spec = recipe("online-rlhf-k8")
    row = algorithm_row(spec.algorithm)
    assert [(draw.source, draw.samples) for draw in row.draws] == [("policy", 8)]
    assert (row.pairing, row.ties, row.reference) == ("best_worst", "drop", "previous")
    assert not row.needs_pairs
    work = iterations(spec, 60_000)
    assert [(w.prompts, w.draws, w.windows, w.steps) for w in work] == [(20_000, 160_000, 156, 312)] * 3
    assert accelerated_steps(20_000, 1, 16) == 156
    assert peaks(spec, 60_000) == pytest.approx([5e-7] * 3)
    assert learning_rate(spec, schedule_of(spec, 60_000), 2, 1) == 5e-7  # no warm-up
    papers = recipe(
        "online-rlhf-k8", "algorithm.reference=fixed", "algorithm.data=accumulate", "training.last_batch=keep"
    )
    assert [w.steps for w in iterations(papers, 60_000)] == [2 * 157, 2 * 313, 2 * 469]


def test_every_iteration_of_the_rlhflow_recipes_has_a_repository_of_its_own() -> None:
    for name in ("online-rlhf-k8", "xpo-llama-3-8b"):
        schedule = schedule_of(recipe(name), 60_000)
        rows = [schedule.shard_prompts(t, k) for t in (1, 2, 3) for k in (0, schedule.shards(t) - 1)]
        assert [int(r.min()) // 20_000 == int(r.max()) // 20_000 == i // 2 for i, r in enumerate(rows)] == [True] * 6


def test_sppo_trains_on_win_probabilities_of_five_draws_with_rmsprop() -> None:
    spec = recipe("sppo-mistral-7b")
    row = algorithm_row(spec.algorithm)
    assert (row.objective.kind, row.beta, row.draws[0].samples, row.reference) == ("sppo", 0.001, 5, "previous")
    assert (spec.training.optimizer, spec.training.rmsprop_alpha) == ("rmsprop", 0.99)
    assert iterations(spec, ULTRAFEEDBACK)[1].steps == math.ceil(20_378 / 64)
    assert learning_rate(spec, schedule_of(spec, ULTRAFEEDBACK), 3, 32) == pytest.approx(5e-7)  # the end of the warm-up


def test_xpo_has_a_fixed_reference_and_trains_on_all_pairs_so_far() -> None:
    spec = recipe("xpo-llama-3-8b")
    row = algorithm_row(spec.algorithm)
    assert [draw.source for draw in row.draws] == ["policy", "reference"]
    assert (row.reference, row.comparator, row.data) == ("fixed", "reference_draw", "accumulate")
    assert [w.steps for w in iterations(spec, 60_000)] == [157, 313, 469]
    assert peaks(spec, 60_000)[0] == pytest.approx(5e-7)  # one schedule over all 939 steps
    assert learning_rate(spec, schedule_of(spec, 60_000), 3, 469) < 1e-11
    assert kappas(recipe("xpo-llama-3-8b", "algorithm.alpha=0")) == [0.0] * 3
    assert recipe("xpo-llama-3-8b", "data.partitions=null", "algorithm.alpha=1e-5", "algorithm.data=fresh").online


def test_what_the_comments_offer_for_other_readings_of_a_paper_is_valid() -> None:
    algorithm_1 = recipe("zephyr-7b-selm", "algorithm.bonus_scale=alpha", "algorithm.decoding=sample")
    assert kappas(algorithm_1) == pytest.approx([0.0, 1e-3, 1e-3, 1e-3])
    both = (
        "{kind: custom, draws: [{source: policy, samples: 2}], comparator: policy_draw, kappa: [1.0e-5, 5.0e-6, 0.0]}"
    )
    assert kappas(recipe("xpo-llama-3-8b", f"algorithm={both}")) == [1e-5, 5e-6, 0.0]


def test_xpo_and_online_rlhf_share_prompts_lengths_and_reward_model() -> None:
    shared = {"data", "judge", "sampling", "resources"}
    assert not {path.split(".")[0] for path in between("xpo-llama-3-8b", "online-rlhf-k8")} & shared


@pytest.mark.parametrize("name", ["zephyr-7b-selm", "online-rlhf-k8", "xpo-llama-3-8b", "sppo-mistral-7b"])
def test_a_recipes_columns_and_lengths_fit_rows_of_its_datasets_form(name: str, tmp_path: Path) -> None:
    """As in UltraFeedback-binarized, and as the prompt sets of RLHFlow: a list of messages under context_messages."""
    prompts = [{"context_messages": pair["chosen"][:1]} for pair in tiny_pairs(48)]
    texts = [{"prompt": f"Say {i}."} for i in range(48)]
    rows = {"zephyr-7b-selm": tiny_pairs(48), "sppo-mistral-7b": texts}.get(name, prompts)
    source = {"kind": "files", "path": str(write_parquet(tmp_path / "rows.parquet", rows))}
    changes = {
        "model.path": tiny_model_folder(tmp_path / "model"),
        "model.end_of_turn": f'"{END}"',
        "data.source": source,
        "data.evaluation": {**source, "limit": 4},
        "judge": {"kind": "pairrm", "path": str(ranker_folder(tmp_path / "PairRM"))},
        "training.batch_size": 4,
        "output.path": tmp_path / "out",
    }
    spec = recipe(name, *(f"{key}={value}" for key, value in changes.items()))
    ready = prepare(spec, tmp_path)
    assert ready.prompts.counts()["kept"] == 48
    assert ready.held_out is not None
    assert ready.held_out.table.num_rows == 4
    assert ready.schedule.partitions == spec.data.partitions
