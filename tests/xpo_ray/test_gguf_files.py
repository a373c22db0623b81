"""GGUF as model.path: which file is meant, what is refused by its name, and one conversion into the user's cache."""

from pathlib import Path
from typing import Any

import gguf
import pytest

from tests.gguf_writing import random_model, write_gguf
from tests.tiny import tiny_model_folder, tiny_tokenizer
from xpo_ray.checkpoints import load_model
from xpo_ray.errors import ModelError
from xpo_ray.gguf_files import check_readable, converted, gguf_file, origin_of, with_safetensors
from xpo_ray.gguf_header import GgufHeader, TensorHeader
from xpo_ray.model_files import weight_files
from xpo_ray.spec.run import RunSpec

TOKENIZER = tiny_tokenizer()
FILE = Path("a.gguf")


def _header(architecture: str = "llama", **metadata: Any) -> GgufHeader:
    told = {"general.architecture": architecture, "tokenizer.ggml.tokens": ["a"]}
    told |= {key.replace("__", "."): value for key, value in metadata.items()}
    return GgufHeader(told, (TensorHeader("output.weight", 64, "Q4_K"),))


def test_a_file_or_the_only_one_of_a_folder_is_meant(tmp_path: Path) -> None:
    file = tmp_path / "model.Q4_1.gguf"
    file.touch()
    assert gguf_file(str(file)) == file
    assert gguf_file(str(tmp_path)) == file
    (tmp_path / "mmproj-model-f16.gguf").touch()
    assert gguf_file(str(tmp_path)) == file


def test_of_several_files_one_must_be_named(tmp_path: Path) -> None:
    for name in ("model.Q4_K_M.gguf", "model.Q8_0.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"2 GGUF files \(model.Q4_K_M.gguf, model.Q8_0.gguf\); name one"):
        gguf_file(str(tmp_path))


def test_of_a_file_that_is_cut_into_pieces_the_first_is_meant(tmp_path: Path) -> None:
    for piece in (1, 2, 3):
        (tmp_path / f"model-{piece:05}-of-00003.gguf").touch()
    assert gguf_file(str(tmp_path)) == tmp_path / "model-00001-of-00003.gguf"


def test_safetensors_come_before_a_gguf_that_lies_beside_them(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model")
    (folder / "model.gguf").touch()
    assert gguf_file(str(folder)) is None
    assert gguf_file("owner/name") is None


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (_header("phi3"), "a GGUF of phi3 in Q4_K: that architecture is not read"),
        (_header("clip"), "a part of a model"),
        (_header(general__type="mmproj"), "a part of a model"),
        (_header(split__count=3), "cut into pieces.*--merge"),
        (_header(llama__expert_count=8), "its setting expert_count"),
        (_header(llama__rope__scaling__type="yarn"), r"its setting rope\.scaling\.type"),
        (_header("qwen2", qwen2__attention__sliding_window=128), r"its setting attention\.sliding_window"),
        (_header(llama__rope__dimension_count=16, llama__attention__key_length=32), "turns 16 of the 32"),
        (_header(tokenizer__ggml__model="gpt2", tokenizer__ggml__pre="viking"), "to cut texts, 'viking'"),
        (_header(tokenizer__ggml__model="gpt2"), "to cut texts, 'default'"),
        (GgufHeader({"general.architecture": "llama"}, ()), "without a tokenizer"),
    ],
)
def test_what_would_be_read_wrongly_is_refused_by_its_name(header: GgufHeader, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        check_readable(FILE, header)
    assert str(caught.value).startswith(f"a.gguf: a GGUF of {header.architecture} in ")


def test_a_setting_that_says_nothing_is_no_reason_to_refuse() -> None:
    check_readable(FILE, _header(llama__rope__scaling__type="none", llama__expert_count=0))


def test_a_file_is_converted_once_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "a.gguf", random_model("llama", TOKENIZER), TOKENIZER)
    told: list[str] = []
    folder = converted(file, told.append)
    assert folder.parent == tmp_path / "cache" / "xpo_ray" / "gguf"
    assert load_model(folder, "float32").config.model_type == "llama"
    assert len(weight_files(folder)) == 1
    assert [("is dequantised, once" in line, "(llama, F32)" in line) for line in told] == [(True, False), (False, True)]
    assert "a.gguf (llama, F32)" in str(origin_of(str(folder)))
    moved = file.rename(tmp_path / "b.gguf")
    told.clear()
    assert converted(moved, told.append) == folder
    assert len(told) == 1


def test_a_conversion_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = random_model("llama", TOKENIZER)
    kind = gguf.GGMLQuantizationType.Q8_0
    file = write_gguf(
        tmp_path / "a.gguf", model, TOKENIZER, quantised=kind, more_tensors={"x.weight": model.lm_head.weight.data}
    )
    with pytest.raises(ModelError, match="some would be left out; name the repository"):
        converted(file, lambda _: None)
    assert not list((tmp_path / "cache" / "xpo_ray" / "gguf").iterdir())


def test_a_spec_with_safetensors_stays_as_it_is(tmp_path: Path) -> None:
    raw = {
        "name": "a",
        "model": {"path": str(tiny_model_folder(tmp_path / "model"))},
        "data": {"source": {"kind": "files", "path": "a.jsonl"}},
        "algorithm": {"kind": "dpo"},
        "output": {"path": str(tmp_path / "out")},
    }
    spec = RunSpec.model_validate(raw)
    assert with_safetensors(spec, lambda _: None) is spec


def test_a_gguf_where_only_safetensors_are_read_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    with pytest.raises(ModelError, match=r"holds GGUF \(a\.gguf\).*python -m xpo_ray\.gguf_conversion"):
        weight_files(tmp_path)
