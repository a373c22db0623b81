"""The header of a GGUF file, read without the package gguf; what is no GGUF is refused."""

from pathlib import Path

import gguf
import pytest

from tests.gguf_writing import random_model, write_gguf
from tests.tiny import tiny_tokenizer
from xpo_ray.errors import ModelError
from xpo_ray.gguf_header import TENSOR_TYPES, read_header

TOKENIZER = tiny_tokenizer()


def test_the_header_tells_what_the_package_gguf_tells(tmp_path: Path) -> None:
    model = random_model("qwen2", TOKENIZER)
    file = write_gguf(tmp_path / "a.gguf", model, TOKENIZER, quantised=gguf.GGMLQuantizationType.Q8_0)
    header, reader = read_header(file), gguf.GGUFReader(file)
    assert header.architecture == "qwen2"
    assert header.quantisation == "Q8_0"
    assert header.settings()["embedding_length"] == model.config.hidden_size
    assert len(header.metadata["tokenizer.ggml.tokens"]) == len(TOKENIZER)
    assert [(t.name, t.elements, t.type) for t in header.tensors] == [
        (t.name, int(t.n_elements), t.tensor_type.name) for t in reader.tensors
    ]


def test_the_numbers_of_tensor_types_are_those_of_the_package_gguf() -> None:
    assert {k.value: k.name for k in gguf.GGMLQuantizationType if k.value < len(TENSOR_TYPES)} == {
        number: name for number, name in TENSOR_TYPES.items() if not name.isdigit()
    }


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"PK\x03\x04 something else", b"GGUF" + (9).to_bytes(4, "little") * 9]
)
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.gguf: .*(not a GGUF|cannot be read)"):
        read_header(tmp_path / "a.gguf")


def test_a_file_that_ends_within_its_header_is_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "a.gguf", random_model("llama", TOKENIZER), TOKENIZER)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ModelError, match="cut short"):
        read_header(file)
