"""What vLLM is made with, and what it cannot do with a model: refused before anything is started, by the model's config."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_model_folder
from xpo_ray.errors import SpecError
from xpo_ray.generation.installed import resolve_engine
from xpo_ray.plan.engine import check_served, vllm_settings
from xpo_ray.plan.machine import GIB, Machine
from xpo_ray.plan.planning import with_engine
from xpo_ray.spec import RunSpec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, four heads of which two have keys and values of 32 numbers each, 1024 positions."""
    return tiny_model_folder(tmp_path_factory.mktemp("engine") / "base", hidden=128)


def spec(folder: Path, **sections: dict[str, Any]) -> RunSpec:
    raw: dict[str, Any] = {
        "name": "served",
        "model": {"path": str(folder), **sections.pop("model", {})},
        "data": {"source": {"kind": "files", "path": "./none.parquet"}, "max_prompt_tokens": 200, "partitions": 3},
        "algorithm": {"kind": "selm"},
        "sampling": {"engine": "vllm", "max_new_tokens": 50},
        "judge": {"kind": "python", "function": "any:score"},
        "output": {"path": "./out"},
    }
    return RunSpec.model_validate({**raw, **{k: {**raw.get(k, {}), **v} for k, v in sections.items()}})


def test_lengths_are_the_longest_prompt_with_the_longest_response(folder: Path) -> None:
    made = vllm_settings(spec(folder, evaluation={"max_new_tokens": 70}), gpu=False)
    assert (made.max_model_len, made.kv_cache_bytes, made.adapter_rank) == (270, 2**30, None)


def test_the_cache_of_a_downloaded_repository_follows_its_config(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--some--body" / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0123abcd")
    config = json.loads((folder / "config.json").read_text())
    hub = spec(folder, model={"path": "some/body"}, data={"shard_size": 64})
    assert vllm_settings(hub, gpu=True).kv_cache_bytes == 2**30
    (snapshot / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 32, "head_dim": 64}))
    each = 2 * 32 * 2 * 64 * 250 * 4  # bytes of one sequence's keys and values
    assert vllm_settings(hub, gpu=True).kv_cache_bytes == 4 * 64 * each
    (snapshot / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 320, "head_dim": 64}))
    assert vllm_settings(hub, gpu=True).kv_cache_bytes == 16 * 2**30


def test_a_run_that_averages_has_room_for_the_adapters_of_all_its_models(folder: Path) -> None:
    lora = {"lora": {"rank": 12}}
    assert vllm_settings(spec(folder, model=lora), gpu=False).adapter_rank == 12
    algorithm = {"kind": "custom", "reference": "ema", "ema_decay": 0.5, "draws": [{"source": "policy", "samples": 2}]}
    assert vllm_settings(spec(folder, model=lora, algorithm=algorithm), gpu=False).adapter_rank == 24


def test_sequences_beyond_the_models_positions_are_refused(folder: Path) -> None:
    check_served(spec(folder, data={"max_prompt_tokens": 974}), gpu=False)
    with pytest.raises(
        SpecError, match=r"max_prompt_tokens 975 and 50 new tokens are 1025, the model in .* has 1024 posi"
    ):
        check_served(spec(folder, data={"max_prompt_tokens": 975}), gpu=False)


def test_positions_that_are_stretched_are_left_to_vllm(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    check_served(spec(tmp_path, data={"max_prompt_tokens": 4000}), gpu=False)


def test_processes_that_do_not_share_the_heads_evenly_are_refused(folder: Path) -> None:
    check_served(spec(folder, resources={"engine_tensor_parallel": 2}), gpu=False)
    with pytest.raises(SpecError, match=r"engine_tensor_parallel 3: .* has 4; take 1, 2, 4"):
        check_served(spec(folder, resources={"engine_tensor_parallel": 3}), gpu=False)


def test_a_cache_too_small_for_one_sequence_is_refused(folder: Path) -> None:
    """250 tokens take two blocks of 128 on a CPU, and one is vLLM's own: 2 · 2 layers · 2 heads · 32 · 384 tokens · 4 bytes are
    384 KiB; on a GPU 17 blocks of 16 are 272 KiB."""
    for gpu, kib in ((False, 384), (True, 272)):
        check_served(spec(folder, resources={"engine_kv_cache_gib": kib / 2**20}), gpu=gpu)
        with pytest.raises(
            SpecError, match=rf"one sequence of 250 tokens are {kib / 2**20:.3g} GiB, each engine process has"
        ):
            check_served(spec(folder, resources={"engine_kv_cache_gib": (kib - 1) / 2**20}), gpu=gpu)


@pytest.mark.parametrize(("resources", "gpu"), [({}, True), ({"engine_gpus": 0}, False), ({"gpus": 0}, False)])
def test_the_plan_takes_the_engine_that_the_run_will_take_with_its_resources(
    folder: Path, resources: dict[str, Any], gpu: bool
) -> None:
    machine = Machine(cores=8, memory=GIB, free_memory=GIB, shared_memory=GIB, disk=GIB, gpus=2)
    auto = spec(folder, sampling={"engine": "auto"}, resources=resources)
    assert with_engine(auto, machine).sampling.engine == resolve_engine(auto, gpu=gpu)
