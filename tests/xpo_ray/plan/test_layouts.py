"""What lies on each GPU, by hand, for Llama-3-8B from its config alone; and what is refused because it cannot lie there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.tiny import tiny_pairs, write_parquet
from tests.xpo_ray.plan.test_shapes import LLAMA_3_8B, config_folder
from xpo_ray.errors import DoesNotFit, SpecError
from xpo_ray.plan import Machine, Plan, check_fits, plan, render
from xpo_ray.plan.machine import GIB
from xpo_ray.plan.roles import CUDA, LEAST_CUDA, LEAST_LIBRARIES, LEAST_WORKER, VLLM_WORKSPACE, RoleMemory
from xpo_ray.spec import RunSpec

N = 8_030_261_248
CLUSTER = Machine(
    cores=64,
    memory=2000 * GIB,
    free_memory=1900 * GIB,
    shared_memory=1000 * GIB,
    disk=1000 * GIB,
    gpus=8,
    gpu_memory=80 * GIB,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layouts")
    write_parquet(path / "train.parquet", tiny_pairs(100))
    (path / "model").mkdir()
    config_folder(path / "model", LLAMA_3_8B)
    return path


def spec(folder: Path, **sections: dict[str, Any]) -> RunSpec:
    raw: dict[str, Any] = {
        "seed": 0,
        "model": {"path": str(folder / "model"), "dtype": "bfloat16"},
        "data": {"source": {"kind": "files", "path": str(folder / "train.parquet")}},
        "algorithm": {"kind": "selm"},
        "sampling": {"engine": "vllm"},
        "judge": {"kind": "python", "function": "rewards:score"},
        "training": {"batch_size": 8},
        "resources": {"engine_kv_cache_gib": 8},
        "output": {"path": str(folder / "out")},
    }
    for name, values in sections.items():
        raw[name] = raw.get(name, {}) | values
    return RunSpec.model_validate(raw)


def role(made: Plan, name: str, layout: int = 0) -> RoleMemory:
    return next(role for role in made.layouts[layout].roles if role.role == name)


def test_a_vllm_engine_has_its_weights_its_reserved_cache_and_a_scorer_on_its_gpu(folder: Path) -> None:
    made = plan(spec(folder, resources={"trainer_workers": 4}), machine=CLUSTER)
    policy = role(made, "policy")
    assert (policy.processes, policy.on_gpu.gpus_each if policy.on_gpu else None) == (4, 1.0)
    assert policy.on_gpu is not None
    certain = {"cuda": LEAST_CUDA, "weights": 2 * N, "scorer": 4 * N, "kv_cache": 8 * GIB}
    assert policy.on_gpu.least == certain
    longest = 3 * (512 + 1024)  # tokens of a prompt and its chosen, rejected and drawn response
    logits = 4 * 4 * longest * 128256 // 2
    assert policy.on_gpu.parts == certain | {
        "cuda": CUDA,
        "workspace": VLLM_WORKSPACE,
        "logits": logits,
    }
    assert policy.least == {"libraries": LEAST_LIBRARIES}  # of the machine's memory


def test_tensor_parallel_cuts_the_weights_and_not_the_cache(folder: Path) -> None:
    resources = {"trainer_workers": 4, "engine_tensor_parallel": 2, "engine_replicas": 2}
    policy = role(plan(spec(folder, resources=resources), machine=CLUSTER), "policy")
    assert policy.on_gpu is not None
    assert (policy.on_gpu.gpus_each, policy.on_gpu.least["weights"], policy.on_gpu.least["kv_cache"]) == (2, N, 8 * GIB)


def test_the_trainers_share_of_each_gpu_falls_with_its_workers(folder: Path) -> None:
    for workers in (2, 4):
        trainer = role(plan(spec(folder, resources={"trainer_workers": workers}), machine=CLUSTER), "trainer")
        assert trainer.on_gpu is not None
        held = {"weights": 4 * N // workers, "gradients": 4 * N // workers, "optimizer": 8 * N // workers}
        assert trainer.on_gpu.least == {"cuda": LEAST_CUDA} | held


def test_colocated_counts_the_peak_over_stages_and_keeps_what_sleeps_in_the_machine(folder: Path) -> None:
    made = plan(spec(folder, resources={"layout": "colocated"}), machine=CLUSTER)
    chosen, other = made.layouts
    assert ((chosen.layout, chosen.chosen), (other.layout, other.chosen)) == (("colocated", True), ("dedicated", False))
    assert (role(made, "trainer").processes, role(made, "policy").processes, len(chosen.loads)) == (8, 8, 8)
    load = chosen.fullest
    assert load is not None
    assert (set(load.roles), load.working) == ({"trainer", "policy"}, ("policy",))
    engine = LEAST_CUDA + 2 * N + 4 * N + 8 * GIB
    assert load.least == engine + LEAST_CUDA  # of the trainer, asleep, its context
    assert role(made, "policy").least == {"libraries": LEAST_LIBRARIES, "asleep": 2 * N + 4 * N}
    assert role(made, "trainer").least == {"libraries": LEAST_LIBRARIES, "asleep": 4 * -(-N // 8) + 8 * -(-N // 8)}
    libraries = (8 + 8 + 1) * LEAST_LIBRARIES + 2 * LEAST_WORKER  # engines, trainers, driver; judge and clerk
    assert made.least_memory_bytes == libraries + 8 * 6 * N  # engines are asleep, or trainers are: the larger of both
    apart = other.fullest
    assert apart is not None
    assert (apart.roles, apart.least) == (("policy",), engine)


def test_a_function_that_is_given_a_gpu_has_cudas_context_there_and_the_rest_is_unknown(folder: Path) -> None:
    made = plan(spec(folder, resources={"judge_gpus": 0.5, "judge_replicas": 2}), machine=CLUSTER)
    judge = role(made, "judge")
    assert judge.on_gpu is not None
    assert (judge.processes, judge.on_gpu.gpus_each, judge.on_gpu.least) == (2, 0.5, {"cuda": LEAST_CUDA})
    assert judge.unknown == "your function's own memory"


def test_a_layout_that_is_not_possible_is_said_to_be_beside_the_chosen_one(folder: Path) -> None:
    resources = {"layout": "colocated", "trainer_workers": 8, "engine_replicas": 8}
    made = plan(spec(folder, resources=resources), machine=CLUSTER)
    assert made.layouts[1].fault is not None
    assert any(note.startswith("layout dedicated is not possible: resources: the run asks for") for note in made.notes)
    assert "layout dedicated: not possible, see below" in shown(made)
    with pytest.raises(SpecError, match=r"asks for .* GPUs and may take 8"):
        plan(spec(folder, resources=resources | {"layout": "dedicated"}), machine=CLUSTER)


def test_what_certainly_does_not_fit_on_a_gpu_is_refused_with_parts_and_remedies(folder: Path) -> None:
    made = plan(spec(folder, resources={"engine_kv_cache_gib": 60, "trainer_workers": 4}), machine=CLUSTER)
    (why,) = made.refusals
    needed = (LEAST_CUDA + 6 * N + 60 * GIB) / 1e9
    assert why.startswith(f"GPU memory: a GPU with policy certainly needs {needed:.1f} GB, it has 85.9 GB.")
    assert "Most of it is the policy: cuda 300 MB, weights 16.1 GB, scorer 32.1 GB, kv cache 64.4 GB" in why
    assert "lower resources.engine_kv_cache_gib, or raise resources.engine_tensor_parallel" in why
    with pytest.raises(DoesNotFit, match="GPU memory"):
        made.check()
    unknown = plan(spec(folder, resources={"engine_kv_cache_gib": 60}), machine=replace(CLUSTER, gpu_memory=None))
    unknown.check()  # nobody said how large the GPUs are


def test_one_gpu_for_all_is_refused_in_dedicated_and_colocated_is_named_where_it_fits(folder: Path) -> None:
    one = replace(CLUSTER, gpus=1, gpu_memory=141 * GIB)
    adapter = {"model": {"lora": {"rank": 16}}, "sampling": {"engine": "transformers"}, "resources": {}}
    plan(spec(folder, **adapter), machine=one).check()
    made = plan(spec(folder), machine=replace(one, gpu_memory=160 * GIB))
    (why,) = made.refusals
    together = 2 * LEAST_CUDA + 6 * N + 8 * GIB + 16 * N
    assert f"a GPU with trainer, policy certainly needs {together / 1e9:.1f} GB" in why
    assert "Most of it is the trainer" in why
    turns = (16 * N + 2 * LEAST_CUDA) / 1e9
    assert why.endswith(f"or set resources.layout: colocated, which certainly needs {turns:.1f} GB")


def test_bounds_beyond_a_gpu_are_a_note(folder: Path) -> None:
    made = plan(spec(folder, resources={"trainer_workers": 2}), machine=CLUSTER)
    assert made.refusals == ()
    (note,) = [n for n in made.notes if n.startswith("GPU memory")]
    assert "up to" in note
    assert "a GPU with trainer needs 64.5 GB for certain and up to" in note
    assert "it has 85.9 GB; the most may be taken by the trainer" in note


def test_the_machines_memory_refuses_only_the_run_that_is_on_it(folder: Path) -> None:
    laptop = replace(CLUSTER, gpus=0, gpu_memory=None, memory=24 * GIB)
    small = spec(folder, sampling={"engine": "transformers"}, resources={"engine_replicas": 2})
    with pytest.raises(DoesNotFit) as refused:
        check_fits(small, laptop)
    why = str(refused.value)
    assert "this machine has 25.8 GB. Most of it is the trainer:" in why
    assert "weights 32.1 GB, gradients 32.1 GB, optimizer 64.2 GB" in why
    assert "To need less, train an adapter (model.lora), or raise resources.trainer_workers over the machines" in why
    check_fits(small, replace(laptop, is_the_runs=False))
    with pytest.raises(DoesNotFit, match=r"the cluster has 107\.4 GB"):
        check_fits(small, replace(laptop, is_the_runs=False, cluster_memory=100 * GIB))


def test_engines_that_do_not_fit_together_name_their_number(folder: Path) -> None:
    small = spec(
        folder, model={"lora": {"rank": 8}}, sampling={"engine": "transformers"}, resources={"engine_replicas": 40}
    )
    with pytest.raises(
        DoesNotFit, match=r"Most of it is the policy: 40 processes with .*lower resources\.engine_replicas"
    ):
        check_fits(small, replace(CLUSTER, gpus=0, gpu_memory=None, memory=24 * GIB))


def shown(made: Plan, width: int = 160) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(render(made))
    return capture.get()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_marks_the_chosen_layout_and_shows_the_other_one(folder: Path, width: int) -> None:
    made = plan(spec(folder, resources={"trainer_workers": 4}), machine=CLUSTER)
    text = shown(made, width)
    assert max(map(len, text.splitlines())) <= width
    told = " ".join(text.split())
    chosen = (
        "layout dedicated (chosen): the fullest of 8 GPUs has policy, 57.1 GB for certain; up to 113.7 GB on one with"
    )
    assert f"{chosen} trainer, of 85.9 GB" in told
    assert "layout colocated: the fullest of 8 GPUs has trainer, policy" in told
    assert "has no weights yet: planned of the parameters that its config.json says" in told


def test_json_carries_both_layouts_and_what_is_certain(folder: Path) -> None:
    out = json.loads(json.dumps(plan(spec(folder, resources={"trainer_workers": 4}), machine=CLUSTER).to_json()))
    assert [(each["layout"], each["chosen"]) for each in out["layouts"]] == [("dedicated", True), ("colocated", False)]
    assert out["layouts"][0]["fullest_gpu"]["least"] == LEAST_CUDA + 6 * N + 8 * GIB
    assert out["roles"][0]["on_gpu"]["least"]["scorer"] == 4 * N
    assert (out["machine"]["gpus"], out["refusals"]) == (8, [])
