"""The plan: counts and bytes by hand, unknowns as unknown, and no heavy import."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from tests.tiny import tiny_model_folder, tiny_pairs, write_parquet
from tests.xpo_ray.judges.pairrm.worlds import ranker_folder
from xpo_ray import lanes, linear
from xpo_ray.errors import DatasetError, ModelError, SpecError
from xpo_ray.model_files import Architecture, architecture, model_folder, parameters
from xpo_ray.plan import Plan, memory, plan, render
from xpo_ray.plan.adapter import check_adapter
from xpo_ray.plan.processes import judge_replicas, pool_sizes, trainer_workers
from xpo_ray.plan.roles import LEAST_LIBRARIES, LEAST_WORKER, LIBRARIES, WORKER, RoleMemory
from xpo_ray.spec import PairRMJudge, RunSpec

SELM = {"kind": "selm"}
XPO = {"kind": "xpo"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, 100 training rows and 10 held-out ones."""
    path = tmp_path_factory.mktemp("plan")
    tiny_model_folder(path / "model", hidden=32, layers=2)
    write_parquet(path / "train.parquet", tiny_pairs(100))
    write_parquet(path / "test.parquet", tiny_pairs(10))
    return path


def spec(folder: Path, algorithm: dict[str, Any], **sections: dict[str, Any]) -> RunSpec:
    raw: dict[str, Any] = {
        "seed": 0,
        "model": {"path": str(folder / "model")},
        "data": {"source": {"kind": "files", "path": str(folder / "train.parquet")}, "shard_size": 16},
        "algorithm": algorithm,
        "judge": {"kind": "python", "function": "rewards:score"},
        "training": {"batch_size": 8},
        "output": {"path": str(folder / "out")},
    }
    for name, values in sections.items():
        raw[name] = raw.get(name, {}) | values
    return RunSpec.model_validate(raw)


def held_out(folder: Path) -> dict[str, Any]:
    return {"evaluation": {"kind": "files", "path": str(folder / "test.parquet")}}


def text(of: Plan) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(render(of))
    return capture.get()


def test_selm_draws_once_per_prompt_and_steps_epochs_times_windows(folder: Path) -> None:
    made = plan(spec(folder, SELM, training={"epochs": 2}, data=held_out(folder)))
    assert (made.prompts, made.evaluation_prompts) == (100, 10)
    assert [w.prompts for w in made.iterations] == [34, 33, 33]
    assert [w.shards for w in made.iterations] == [3, 3, 3]  # ceil(34 / 16)
    assert [w.windows for w in made.iterations] == [5, 5, 5]  # ceil(34 / 8)
    assert [w.steps for w in made.iterations] == [10, 10, 10]
    assert (made.shards, made.windows, made.steps, made.draws) == (9, 15, 30, 100)
    assert made.evaluation_draws == 10 * 4  # the base and three iterations


def test_accumulate_trains_on_all_partitions_so_far_and_says_what_it_costs(folder: Path) -> None:
    made = plan(spec(folder, XPO | {"data": "accumulate"}, data={"partitions": 4}))
    assert [w.trained_prompts for w in made.iterations] == [25, 50, 75, 100]
    assert [w.steps for w in made.iterations] == [4, 7, 10, 13]
    assert made.draws == 200  # policy and reference, once each
    [note] = [n for n in made.notes if "accumulate" in n]
    assert "34 steps, fresh data would take 16" in note


def test_a_fully_online_run_has_one_iteration_per_window(folder: Path) -> None:
    made = plan(spec(folder, {"kind": "online_dpo", "draws": 4}, data=held_out(folder), evaluation={"every_steps": 5}))
    assert len(made.iterations) == 13  # ceil(100 / 8)
    assert (made.steps, made.draws) == (13, 400)
    assert made.evaluation_draws == 10 * 4  # the base, after steps 5 and 10, at the end
    assert "1–9" in text(made)


def test_a_warm_up_is_named_and_draws_nothing(folder: Path) -> None:
    made = plan(spec(folder, SELM | {"warmup_iterations": 1}, data={"partitions": 2}))
    assert [(w.kind, w.draws) for w in made.iterations] == [("dpo", 0), ("selm", 50)]


def test_a_limit_and_several_files_bound_the_prompts(folder: Path) -> None:
    paths = [str(folder / "train.parquet"), str(folder / "test.parquet")]
    assert plan(spec(folder, SELM, data={"source": {"kind": "files", "path": paths}})).prompts == 110
    limited = {"source": {"kind": "files", "path": paths, "limit": 40}}
    assert plan(spec(folder, SELM, data=limited)).prompts == 40


def test_hub_sources_and_models_are_unknown_and_said_to_be(folder: Path) -> None:
    hub = {"source": {"kind": "hub", "name": "owner/data"}}
    made = plan(spec(folder, SELM, data=hub, model={"path": "owner/model"}))
    assert (made.prompts, made.parameters, made.iterations, made.steps) == (None, None, (), None)
    assert made.evaluation_draws is None
    assert {r.role: r.unknown for r in made.roles}["trainer"] == "the model's size"
    assert any("owner/model is a hub repository" in n for n in made.notes)
    assert any("known only after the dataset has been read" in n for n in made.notes)
    shown = text(made)
    assert "unknown parameters" in shown
    assert "at most unknown" not in shown
    assert "without what is not known" in shown


def test_rows_that_are_said_stand_in_where_only_a_download_would_tell(folder: Path) -> None:
    hub: dict[str, Any] = {"source": {"kind": "hub", "name": "owner/data"}}
    made = plan(spec(folder, SELM, data=hub), rows=100)
    assert (made.prompts, made.steps) == (100, 15)  # three partitions of ceil(34 / 8) and twice ceil(33 / 8) windows
    assert not any("known only after the dataset" in n for n in made.notes)
    hub["source"]["limit"] = 40
    assert plan(spec(folder, SELM, data=hub), rows=100).prompts == 40
    assert plan(spec(folder, SELM, data=hub), rows=30).prompts == 30
    assert plan(spec(folder, SELM), rows=7).prompts == 100  # files count themselves
    with pytest.raises(SpecError, match="only 2 prompts"):
        plan(spec(folder, SELM, data=hub), rows=2)


def test_parameters_and_sizes_come_from_headers_and_config(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert parameters(folder / "model") == sum(p.numel() for p in model.parameters())
    assert architecture(folder / "model") == Architecture(
        layers=2, hidden=32, intermediate=64, heads=4, kv_heads=2, head_dim=8, vocabulary=384
    )


def test_parameters_of_a_sharded_model_are_those_of_its_index(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    (tmp_path / "consolidated.safetensors").write_bytes((folder / "model/model.safetensors").read_bytes())
    assert parameters(tmp_path) == parameters(folder / "model")
    next(tmp_path.glob("model-*.safetensors")).unlink()
    with pytest.raises(ModelError, match="missing, though the index names it"):
        parameters(tmp_path)


def test_memory_of_every_role_by_hand(folder: Path) -> None:
    made = plan(
        spec(
            folder,
            SELM,
            data={"max_prompt_tokens": 100, "max_response_tokens": 60},
            sampling={"max_new_tokens": 50},
            training={"micro_batch_tokens": 1000},
            resources={"engine_replicas": 3, "trainer_threads": 2},
        )
    )
    n = parameters(folder / "model")
    by_role = {role.role: role for role in made.roles}
    processes = {"policy": 3, "trainer": 1, "judge": 1, "clerk": 1, "driver": 1}
    assert {name: role.processes for name, role in by_role.items()} == processes
    keys_and_values = 2 * 2 * 2 * 8 * 16 * 150 * 4  # both, layers, heads, head size, shard, tokens, float32
    logits = 4 * 4 * 1000 * 384
    assert by_role["policy"].parts == {
        "libraries": LIBRARIES,
        "weights": 4 * n,
        "packed": 2 * 4 * (n - 384 * 32),
        "kv_cache": keys_and_values,
        "next_weights": 2 * 4 * n,
        "logits": logits // 2,
    }
    attention, mlp = 8 * 32 + 2 * (4 + 2) * 8, 4 * 64
    assert by_role["trainer"].parts == {
        "libraries": LIBRARIES,
        "weights": 4 * n,
        "gradients": 4 * n,
        "optimizer": 8 * n,
        "lanes": 3 * 4 * n,  # two threads, each with a sum and what it adds to it; one of the four is the gradients
        "activations": 4 * 1000 * 2 * (attention + mlp),
        "logits": logits,
    }
    assert (by_role["judge"].parts, by_role["judge"].unknown) == ({"libraries": WORKER}, "your function's own memory")
    in_processes = sum(r.processes * sum(r.parts.values()) for r in made.roles)
    assert made.memory_bytes == in_processes + made.objects.bytes
    assert by_role["policy"].least == {"libraries": LEAST_LIBRARIES, "weights": 4 * n // 3}  # one file's pages, shared
    held = {"weights": 4 * n, "gradients": 4 * n, "optimizer": 8 * n}
    assert by_role["trainer"].least == {"libraries": LEAST_LIBRARIES} | held
    certain = 3 * (LEAST_LIBRARIES + 4 * n // 3) + 2 * LEAST_LIBRARIES + 2 * LEAST_WORKER + 16 * n
    assert made.least_memory_bytes == certain


@pytest.mark.parametrize(("threads", "lanes"), [(1, 1), (3, 3), (100, 4)])  # of two prompts of a window each
def test_a_micro_batch_of_each_lane_holds_one_prompts_responses_at_least(
    folder: Path, threads: int, lanes: int
) -> None:
    made = plan(
        spec(
            folder,
            SELM,
            data={"max_prompt_tokens": 100, "max_response_tokens": 60},
            training={"micro_batch_tokens": 1},
            resources={"trainer_threads": threads},
        )
    )
    trainer = next(r for r in made.roles if r.role == "trainer")
    one = 4 * 4 * 3 * (100 + 256) * 384  # chosen, rejected and the comparator, drawn or not
    assert trainer.parts["logits"] == lanes * one


def test_a_large_model_is_trained_in_one_lane(folder: Path) -> None:
    made = spec(folder, SELM, training={"batch_size": 64}, resources={"trainer_threads": 2})
    assert memory.lanes_of_training(made, 8, lanes.MOST_WEIGHTS) == 2
    assert memory.lanes_of_training(made, 8, lanes.MOST_WEIGHTS + 1) == 1


def parts(folder: Path, algorithm: dict[str, Any] = SELM, **sections: Any) -> dict[str, dict[str, int]]:
    """The parts of every role's memory."""
    return {r.role: r.parts for r in plan(spec(folder, algorithm, **sections)).roles}


def test_bfloat16_draws_from_weights_beside_those_that_score_and_the_trainer_keeps_casts(folder: Path) -> None:
    full, half = (parts(folder, model={"dtype": dtype}) for dtype in ("float32", "bfloat16"))
    n = parameters(folder / "model")
    assert half["policy"]["weights"] == (4 + 2) * n
    assert half["policy"]["kv_cache"] * 2 == full["policy"]["kv_cache"]
    assert half["trainer"] == full["trainer"] | {"casts": 2 * n}


def own_bytes(*models: Any) -> int:
    """Of the parameters of models that a process holds, each counted once."""
    held = {id(p): p for model in models for p in model.parameters()}
    return sum(p.nbytes for p in held.values())


LORAS: list[dict[str, Any]] = [
    {"rank": 4},
    {"rank": 3, "target_modules": ["q_proj", "v_proj", "down_proj"]},
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, *LORAS], ids=["full", "all", "named"])
def test_weights_of_policy_and_trainer_are_what_the_plan_says(
    folder: Path, dtype: str, lora: dict[str, Any] | None
) -> None:
    from xpo_ray.chat import Chat
    from xpo_ray.policy import Policy
    from xpo_ray.training import Trainer

    made = spec(folder, SELM, model={"dtype": dtype, "lora": lora})
    by_role = {r.role: r.parts for r in plan(made).roles}
    policy = Policy(made, Chat.load(made.model.path, None, "tokenizer"))
    policy.load(made.model.path, 0)
    trainer = Trainer(made.training, made.model.path, made.model.dtype, origin=made.model)
    trained = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    for p in trained:
        p.grad = p.new_ones(p.shape)
    trainer.optimizer.step()
    moments = sum(v.nbytes for state in trainer.optimizer.state.values() for k, v in state.items() if k != "step")
    planned = by_role["trainer"]
    assert own_bytes(policy.scorer, policy.engine.model) == _held(by_role["policy"])
    assert own_bytes(trainer.model) == _held(planned)
    assert sum(p.grad.nbytes for p in trained if p.grad is not None) == planned["gradients"]
    assert moments == planned["optimizer"]


def test_rmsprop_keeps_one_moment_of_each_parameter(folder: Path) -> None:
    def parts(optimizer: str) -> dict[str, int]:
        made = plan(spec(folder, SELM, training={"optimizer": optimizer}))
        return next(role.parts for role in made.roles if role.role == "trainer")

    assert parts("adamw")["optimizer"] == 2 * parts("rmsprop")["optimizer"] == 2 * parts("rmsprop")["weights"]


def _held(planned: dict[str, int]) -> int:
    return planned["weights"] + planned.get("adapter", 0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [None, LORAS[0]], ids=["full", "lora"])
@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointing"])
def test_what_a_micro_batch_saves_is_below_the_plans_bound_and_not_far_below(
    tmp_path: Path, folder: Path, dtype: str, lora: dict[str, Any] | None, again: bool
) -> None:
    from tests.xpo_ray.test_recomputation import saved_bytes
    from xpo_ray.logprobs import PromptGroup, plain, precision
    from xpo_ray.training import Trainer

    tiny_model_folder(tmp_path / "deep", hidden=64, layers=6)
    made = spec(
        folder,
        SELM,
        model={"path": str(tmp_path / "deep"), "dtype": dtype, "lora": lora},
        training={"micro_batch_tokens": 900, "activation_checkpointing": again},
        resources={"trainer_threads": 1},
        data={"max_prompt_tokens": 100, "max_response_tokens": 50},
        sampling={"max_new_tokens": 50},
    )
    trainer = Trainer(made.training, made.model.path, made.model.dtype, origin=made.model)
    group = PromptGroup(list(range(20, 120)), tuple(list(range(k, k + 50)) for k in (120, 170, 220)))

    def work() -> Any:
        with precision(made.model.dtype, trainer.device):
            return plain(trainer.model, [group, group]).logp_S.sum()

    _, saved = saved_bytes(trainer.model, work)
    planned = next(r.parts for r in plan(made).roles if r.role == "trainer")
    bound = planned["activations"] + planned["logits"] + planned.get("casts", 0)
    one_layer = 4 * 900 * (8 * 64 + 2 * (4 + 2) * 16 + 4 * 128)
    assert bound / (6 if again else 3) < saved + (one_layer if again else 0) < bound


@pytest.mark.parametrize("lora", [None, LORAS[0]], ids=["full", "lora"])
def test_several_trainer_workers_share_what_they_hold_and_not_what_they_compute(
    folder: Path, lora: dict[str, Any] | None
) -> None:
    one, three = (
        parts(folder, model={"lora": lora}, resources={"trainer_workers": n, "trainer_threads": 1})["trainer"]
        for n in (1, 3)
    )
    held = {name for name in one if name in ("weights", "adapter", "gradients", "optimizer")}
    assert {name: three[name] for name in held} == {name: -(-one[name] // 3) for name in held}
    assert {n: three[n] for n in ("activations", "logits")} == {n: one[n] for n in ("activations", "logits")}
    n, ends = parameters(folder / "model"), 2 * 384 * 32
    assert three["gathered"] == 8 * (ends + 2 * ((n - ends) // 2))  # of two layers


def test_auto_is_a_worker_on_each_gpu_or_on_half_of_those_of_its_own_and_one_without(folder: Path) -> None:
    made = spec(folder, SELM, resources={"trainer_workers": "auto"})
    assert [trainer_workers(made, gpus) for gpus in (0, 1, 2, 8)] == [1, 1, 1, 4]
    turns = spec(folder, SELM, resources={"trainer_workers": "auto", "layout": "colocated"})
    assert [trainer_workers(turns, gpus) for gpus in (0, 1, 2, 8)] == [1, 1, 2, 8]
    with pytest.raises(ValidationError, match="trainer_workers"):
        spec(folder, SELM, resources={"trainer_workers": 0})


@pytest.mark.parametrize("name", ["nope", "lm_head", "embed_tokens"])
def test_names_that_no_linear_layer_has_are_refused_with_those_it_has(folder: Path, name: str) -> None:
    made = spec(folder, SELM, model={"lora": {"target_modules": ["q_proj", name]}})
    for check in (plan, lambda s: check_adapter(s.model)):
        with pytest.raises(ModelError, match=f"is called {name}; it has down_proj, gate_proj, k_proj"):
            check(made)


def test_checkpointing_leaves_one_layer_and_the_inputs_of_all(folder: Path) -> None:
    kept, again = (
        parts(
            folder,
            training={"activation_checkpointing": value, "micro_batch_tokens": 1},
            resources={"trainer_threads": 1},
        )["trainer"]
        for value in (False, True)
    )
    tokens = 3 * (512 + 1024)
    assert kept["activations"] - again["activations"] == kept["activations"] // 2 - 4 * tokens * 2 * 32
    assert {k: v for k, v in kept.items() if k != "activations"} == {
        k: v for k, v in again.items() if k != "activations"
    }


def test_an_adapter_is_counted_by_hand_and_named_in_a_note(folder: Path) -> None:
    made = plan(spec(folder, SELM, model={"lora": LORAS[1]}))
    trained = 2 * 3 * ((32 + 32) + (32 + 16) + (64 + 32))  # layers, rank, in + out of q, v and down
    trainer = next(r.parts for r in made.roles if r.role == "trainer")
    assert (trainer["adapter"], trainer["optimizer"]) == (4 * trained, 8 * trained)
    assert any(n.startswith(f"model.lora trains {trained:,} parameters") for n in made.notes)


@pytest.mark.parametrize(
    ("algorithm", "evaluated", "sizes"),
    [
        (SELM, True, (4, 0, 0)),
        (XPO, False, (4, 0, 0)),
        ({"kind": "dpo"}, False, (4, 0, 0)),
        ({"kind": "online_dpo", "warmup_iterations": 1}, False, (4, 0, 4)),
    ],
)
def test_with_an_adapter_the_policys_processes_are_the_base_too(
    folder: Path, algorithm: dict[str, Any], evaluated: bool, sizes: tuple[int, int, int]
) -> None:
    data: dict[str, Any] = (held_out(folder) if evaluated else {}) | {"partitions": 2}
    made = spec(folder, algorithm, data=data, model={"lora": LORAS[0]})
    assert tuple(pool_sizes(made, cores=4).values()) == sizes


def test_a_reward_model_counts_its_weights(folder: Path) -> None:
    judge = {"kind": "reward_model", "path": str(folder / "model"), "dtype": "bfloat16"}
    raw = spec(folder, SELM).model_dump() | {"judge": judge}
    made = plan(RunSpec.model_validate(raw | {"resources": {"judge_replicas": 2}}))
    role = next(r for r in made.roles if r.role == "judge")
    assert (role.processes, role.parts["weights"]) == (2, 2 * parameters(folder / "model"))


def test_pairrm_counts_its_weights_its_positions_and_the_bias_of_its_attention(folder: Path, tmp_path: Path) -> None:
    ranker = ranker_folder(tmp_path)
    judge = {"kind": "pairrm", "path": str(ranker), "batch_tokens": 1000, "max_tokens": 200, "max_source_tokens": 100}
    made = spec(folder, SELM).model_copy(update={"judge": PairRMJudge.model_validate(judge)})
    role = next(r for r in plan(made).roles if r.role == "judge")
    assert role.parts == {
        "libraries": LIBRARIES,
        "weights": 4 * parameters(ranker),
        "positions": 4 * 3 * 2 * 512 * 32,  # layers, keys and queries, positions, hidden
        "activations": 4 * 1000 * (8 * 48 + 2 * 4 * 200),
    }
    assert judge_replicas(made, cores=3) == 3


def test_an_ensemble_holds_all_its_members_in_one_process_for_each_core(folder: Path) -> None:
    reward = {"kind": "reward_model", "path": str(folder / "model")}
    python = {"kind": "python", "function": "rewards:score"}
    members = [
        {"judge": j} for j in (reward, python, reward | {"dtype": "bfloat16"}, {"kind": "actor", "name": "mine"})
    ]
    raw = spec(folder, SELM).model_dump() | {"judge": {"kind": "ensemble", "members": members}}
    n, alone = parameters(folder / "model"), judging(RunSpec.model_validate(raw | {"judge": reward}))
    role = judging(RunSpec.model_validate(raw | {"resources": {"judge_replicas": 2}}))
    assert (role.role, role.processes, role.parts["libraries"]) == ("judge", 2, LIBRARIES)
    assert role.parts["weights"] == 4 * n + 2 * n
    assert role.parts["activations"] == 1.5 * alone.parts["activations"]
    assert role.unknown == "your function's own memory, your actor's own memory"


def judging(made: RunSpec) -> RoleMemory:
    return next(role for role in plan(made).roles if role.role == "judge")


@pytest.mark.parametrize(
    ("kinds", "replicas"),
    [
        (["reward_model"], 4),
        (["pairrm"], 4),
        (["python"], 1),
        (["actor"], 1),
        (["http", "llm"], 1),
        (["python", "actor"], 1),
        (["python", "reward_model"], 4),
    ],
)
def test_a_judge_that_computes_has_a_process_for_each_core(folder: Path, kinds: list[str], replicas: int) -> None:
    known = {
        "reward_model": {"kind": "reward_model", "path": "./reward"},
        "pairrm": {"kind": "pairrm", "path": "./ranker"},
        "python": {"kind": "python", "function": "rewards:score"},
        "actor": {"kind": "actor", "name": "mine"},
        "http": {"kind": "http", "url": "http://localhost/"},
        "llm": {"kind": "llm", "url": "http://localhost/v1", "model": "big"},
    }
    several = {"kind": "ensemble", "members": [{"judge": known[kind]} for kind in kinds]}
    raw = spec(folder, SELM).model_dump() | {"judge": several if len(kinds) > 1 else known[kinds[0]]}
    assert judge_replicas(RunSpec.model_validate(raw), cores=4) == replicas
    asked = RunSpec.model_validate(raw | {"resources": {"judge_replicas": 3}})
    assert judge_replicas(asked, cores=4) == 3


@pytest.mark.parametrize(
    ("algorithm", "evaluated", "sizes"),
    [
        (SELM, False, (4, 0, 0)),
        (SELM, True, (4, 1, 0)),
        (XPO, False, (4, 4, 0)),
        ({"kind": "online_dpo"}, False, (4, 4, 0)),
        ({"kind": "dpo"}, False, (0, 4, 0)),
        ({"kind": "dpo"}, True, (4, 4, 0)),
        (SELM | {"warmup_iterations": 1}, False, (4, 4, 0)),
    ],
)
def test_processes_follow_from_who_draws_and_what_the_reference_is(
    folder: Path, algorithm: dict[str, Any], evaluated: bool, sizes: tuple[int, int, int]
) -> None:
    data = held_out(folder) if evaluated else {}
    assert tuple(pool_sizes(spec(folder, algorithm, data=data), cores=4).values()) == sizes


def test_too_little_memory_is_noted_with_what_to_lower(folder: Path) -> None:
    made = plan(
        spec(folder, SELM, training={"micro_batch_tokens": 10**12, "batch_size": 30}, data={"max_prompt_tokens": 10**9})
    )
    assert any("this machine has" in n and "training.micro_batch_tokens" in n for n in made.notes)
    made.check()  # nothing of it is certain


def test_a_run_that_cannot_start_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"tran\.parquet: no such file or folder; did you mean train\.parquet"):
        plan(spec(folder, SELM, data={"source": {"kind": "files", "path": str(folder / "tran.parquet")}}))
    with pytest.raises(ModelError, match="no such model folder"):
        plan(spec(folder, SELM, model={"path": str(folder / "none")}))
    with pytest.raises(SpecError, match="smallest of 3 partitions has 33 prompts"):
        plan(spec(folder, SELM, training={"batch_size": 64}))
    with pytest.raises(ModelError, match=r"config\.json: missing"):
        architecture(tmp_path)
    with pytest.raises(ModelError, match=r"no model\.safetensors.*found no weights.*save_pretrained"):
        parameters(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(ModelError, match="not a safetensors file, or cut short"):
        parameters(tmp_path)
    with pytest.raises(ModelError, match="this is a file"):
        model_folder(str(tmp_path / "model.safetensors"))


def test_the_plan_is_json_and_a_table_that_says_at_most(folder: Path) -> None:
    made = plan(spec(folder, SELM, data=held_out(folder)))
    out = json.loads(json.dumps(made.to_json()))
    assert out["totals"] == {"shards": 9, "windows": 15, "steps": 15, "draws": 100}
    assert out["upper_bounds"] is True
    assert out["iterations"][0]["kind"] == "selm"
    total = sum(r["bytes"] for r in out["roles"]) + out["object_store"]["bytes"]
    assert total == out["memory_bytes"] == made.memory_bytes
    shown = text(made)
    for word in (
        "work, at most",
        "memory of the machines",
        "object store",
        "trainer",
        "kv cache",
        "upper bound",
        "without your function's own memory",
    ):
        assert word in shown


def test_long_online_runs_show_their_first_and_last_iterations(folder: Path) -> None:
    made = plan(spec(folder, XPO | {"data": "accumulate"}, training={"batch_size": 2}, data={"partitions": 50}))
    lines = text(made).splitlines()
    assert any("…" in line for line in lines)
    assert any(line.startswith("│ 50 ") for line in lines)
    assert not any(line.startswith("│ 30 ") for line in lines)


def test_planning_loads_no_heavy_library(folder: Path) -> None:
    raw = json.dumps(spec(folder, SELM).model_dump(mode="json"))
    code = (
        "import json, sys; from xpo_ray.plan import plan, render; from xpo_ray.spec import RunSpec\n"
        "render(plan(RunSpec.model_validate(json.loads(sys.argv[1]))))\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'ray', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, raw], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


LLM = {"kind": "llm", "url": "http://localhost/v1", "model": "big", "function": None}


def judged_by(folder: Path, algorithm: dict[str, Any], judge: dict[str, Any], **sections: Any) -> Plan:
    made = spec(folder, algorithm, **sections).model_dump(mode="json")
    return plan(RunSpec.model_validate({**made, "judge": {k: v for k, v in judge.items() if v is not None}}))


@pytest.mark.parametrize(
    ("algorithm", "mode", "said"),
    [
        (SELM, "pairwise", "K(K − 1) = 6 requests for a prompt with K = 3 candidates, 600 in the whole run"),
        (SELM, "scored", "K = 3 requests for a prompt with K = 3 candidates, 300 in the whole run"),
        (XPO, "pairwise", "K(K − 1) = 2 requests for a prompt with K = 2 candidates, 200 in the whole run"),
        (
            {"kind": "online_dpo", "draws": 4},
            "pairwise",
            "K(K − 1) = 12 requests for a prompt with K = 4 candidates, 1,200",
        ),
    ],
)
def test_requests_to_a_language_model_are_counted_for_every_prompt_and_pair(
    folder: Path, algorithm: dict[str, Any], mode: str, said: str
) -> None:
    notes = judged_by(folder, algorithm, {**LLM, "mode": mode}).notes
    assert any(said in note and f"judge big, {mode}" in note for note in notes), notes


def test_requests_of_evaluations_are_those_beside_the_base_and_beside_the_model_before(folder: Path) -> None:
    data = {"partitions": 2, **held_out(folder)}
    pairs = judged_by(folder, SELM, LLM, data=data).notes
    assert any("evaluation by big: about 80 requests" in note for note in pairs), (
        pairs
    )  # 10 prompts, 2 models, 4 requests
    scores = judged_by(folder, SELM, {**LLM, "mode": "scored"}, data=data).notes
    assert any("evaluation by big: about 30 requests" in note for note in scores), scores  # 10 prompts, 3 models


def test_dataset_pairs_and_other_judges_cost_no_request(folder: Path) -> None:
    assert not any("requests" in note for note in plan(spec(folder, SELM)).notes)
    of = judged_by(folder, {"kind": "dpo"}, LLM)
    assert any("0 in the whole run" in note for note in of.notes), of.notes


def test_of_a_dear_language_model_in_an_ensemble_the_requests_are_a_bound(folder: Path) -> None:
    cheap, dear = (
        {"kind": "http", "url": "http://localhost/"},
        {"kind": "llm", "url": "http://localhost/v1", "model": "big"},
    )
    members = [{"judge": cheap}, {"judge": dear}]
    data = {"partitions": 2, **held_out(folder)}
    for combine, training, evaluation in (
        ({"combine": "cheap_then_dear", "unsure_below": 0.1}, "at most 600 in", "at most 80 requests"),
        ({"combine": "mean"}, "candidates, 600 in", "about 80 requests"),
    ):
        judge = {"kind": "ensemble", "members": members, "function": None, **combine}
        notes = judged_by(folder, SELM, judge, data=data).notes
        assert any(training in note and note.startswith("judge big") for note in notes), notes
        assert any(f"evaluation by big: {evaluation}" in note for note in notes), notes


def test_a_remote_judge_is_a_small_process(folder: Path) -> None:
    of = judged_by(folder, SELM, {"kind": "http", "url": "http://localhost/"})
    assert [(r.processes, r.parts, r.unknown) for r in of.roles if r.role == "judge"] == [
        (1, {"libraries": WORKER}, None)
    ]


def test_numbers_of_modules_that_need_torch_are_the_plans_own() -> None:
    assert (memory.MOST_PACKED, memory.LEAST_LANE) == (linear.MOST_PACKED, lanes.LEAST_EACH)
    assert memory.MOST_LANED == lanes.MOST_WEIGHTS
