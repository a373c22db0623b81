"""The object store's bound, by hand for small rows; and when it is too small for what goes through it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_model_folder, tiny_pairs, write_parquet
from xpo_ray.model_files import parameters
from xpo_ray.plan import Machine, local_store, plan
from xpo_ray.plan.fit import store_size
from xpo_ray.plan.machine import GIB
from xpo_ray.plan.objects import CANDIDATE, ROW, TOKEN, ObjectStore
from xpo_ray.spec import RunSpec

ROOMY = Machine(cores=2, memory=64 * GIB, free_memory=60 * GIB, shared_memory=40 * GIB, disk=100 * GIB)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("objects")
    tiny_model_folder(path / "model")
    write_parquet(path / "train.parquet", tiny_pairs(100))
    write_parquet(path / "test.parquet", tiny_pairs(10))
    return path


def spec(folder: Path, algorithm: dict[str, Any], **sections: dict[str, Any]) -> RunSpec:
    files = {"kind": "files", "path": str(folder / "train.parquet")}
    raw: dict[str, Any] = {
        "seed": 0,
        "model": {"path": str(folder / "model")},
        "data": {"source": files, "shard_size": 8, "max_prompt_tokens": 100, "max_response_tokens": 50},
        "algorithm": algorithm,
        "sampling": {"max_new_tokens": 50},
        "judge": {"kind": "python", "function": "rewards:score"},
        "training": {"batch_size": 16},
        "resources": {"engine_replicas": 1},
        "output": {"path": str(folder / "out")},
    }
    for name, values in sections.items():
        raw[name] = raw.get(name, {}) | values
    return RunSpec.model_validate(raw)


def parts(made: RunSpec) -> dict[str, int]:
    return plan(made, machine=ROOMY).objects.parts


PROMPT = ROW + TOKEN * 100
RESPONSE = CANDIDATE + TOKEN * 50


def test_shards_in_flight_hold_their_later_stages_at_once(folder: Path) -> None:
    candidates = PROMPT + 3 * RESPONSE  # the draw and the dataset's pair
    preferences = candidates + 8 * (3 + 9)
    row = candidates + preferences + preferences + 8 * 3
    alive = 2 * 1 + 2 + (16 // 8 + 1)  # in flight, and a window that touches three
    assert parts(spec(folder, {"kind": "selm"})) == {"shards": min(alive, 5) * 8 * row}  # 34 prompts are 5 shards
    again = parts(spec(folder, {"kind": "selm"}, training={"epochs": 2}))
    assert again["read_again"] == (2 * 4 + 3) * 8 * (preferences + 8 * 3)
    turns = parts(spec(folder, {"kind": "selm"}, resources={"layout": "colocated"}))
    assert turns["read_again"] == again["read_again"]


def test_a_fixed_reference_draws_a_partition_ahead(folder: Path) -> None:
    ahead = parts(spec(folder, {"kind": "xpo"}, data={"partitions": 2}))["drawn_ahead"]
    behind = 4 * 8
    assert ahead == (50 + behind) * RESPONSE + behind * (PROMPT + 2 * TOKEN * 50)
    assert "drawn_ahead" not in parts(spec(folder, {"kind": "online_dpo"}, data={"partitions": 2}))


def test_a_fully_online_run_holds_two_versions_of_the_weights_and_two_blocks_of_draws(folder: Path) -> None:
    made = plan(spec(folder, {"kind": "xpo"}), machine=ROOMY)
    n = parameters(folder / "model")
    assert (made.objects.weights_object, made.objects.parts["weights"]) == (4 * n, 2 * 4 * n)
    assert made.objects.parts["drawn_ahead"] == 512 * RESPONSE + 256 * (PROMPT + 2 * TOKEN * 50)
    adapter = plan(spec(folder, {"kind": "xpo"}, model={"lora": {"rank": 4}}), machine=ROOMY).objects
    assert 0 < adapter.weights_object < n
    assert plan(spec(folder, {"kind": "selm"}), machine=ROOMY).objects.weights_object == 0


def test_held_out_prompts_stay_and_two_evaluations_have_four_tables_each(folder: Path) -> None:
    evaluation = {"kind": "files", "path": str(folder / "test.parquet")}
    held_out = parts(spec(folder, {"kind": "selm"}, data={"evaluation": evaluation}))["held_out"]
    assert held_out == 10 * (PROMPT + 2 * TOKEN * 50 + 2 * 4 * (ROW + TOKEN * 150))


def test_a_store_that_is_too_small_is_a_note_and_a_local_ray_gets_more_where_there_is_room(folder: Path) -> None:
    whole = plan(spec(folder, {"kind": "xpo"}), machine=ROOMY)
    layout, large = whole.layouts[0], ObjectStore({"weights": 20 * GIB}, 10 * GIB)
    assert store_size(layout, whole.objects, ROOMY) is None
    assert store_size(layout, large, ROOMY) == int(1.1 * 20 * GIB)
    assert store_size(layout, large, replace(ROOMY, shared_memory=19 * GIB)) == int(
        0.95 * 19 * GIB
    )  # Ray would take 18 GiB
    full = replace(ROOMY, free_memory=5 * GIB)
    assert store_size(layout, large, full) == 5 * GIB - sum(role.least_bytes for role in layout.roles)
    assert store_size(layout, large, replace(full, shared_memory=GIB)) is None  # Ray then lays it on the disk
    assert local_store(spec(folder, {"kind": "xpo"}), 100, 10) is None


def test_notes_say_where_the_store_spills_and_where_it_lies_on_the_disk(folder: Path) -> None:
    online = spec(folder, {"kind": "xpo"})
    scarce = plan(online, machine=replace(ROOMY, free_memory=4_000_000))
    (note,) = [n for n in scarce.notes if n.startswith("object store")]
    assert "Ray takes 1 MB by default" in note
    assert "lower resources.max_shards_in_flight or data.shard_size" in note
    contained = plan(online, machine=replace(ROOMY, shared_memory=64 * 2**20))
    (note,) = [n for n in contained.notes if n.startswith("object store")]
    assert note.startswith("object store: /dev/shm has 67 MB free, less than Ray's store, which then lies on the disk")


def test_weights_that_neither_the_store_nor_the_disk_can_hold_are_refused(folder: Path) -> None:
    nowhere = replace(ROOMY, free_memory=100_000, disk=10_000)
    (why,) = plan(spec(folder, {"kind": "xpo"}), machine=nowhere).refusals
    assert why.startswith("object store: one version of the weights has")
    assert "Set data.partitions, so that weights go by folder" in why
    assert plan(spec(folder, {"kind": "selm"}), machine=nowhere).refusals == ()
