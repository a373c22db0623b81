"""GGUF as `model.path`: found, refused by its name where it cannot be read, else converted once into the user's cache.

`xpo-ray run` and `validate` call `with_safetensors` before anything reads the model; what follows sees an ordinary folder.
Neither torch nor transformers is imported here: the conversion has a process of its own.
"""

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from xpo_ray.errors import ModelError
from xpo_ray.gguf_header import GgufHeader, read_header
from xpo_ray.spec.run import RunSpec
from xpo_ray.user_cache import user_cache

ORIGIN = "gguf.json"
"""In a folder that was converted: which file it was made from."""
SETTINGS = frozenset(
    {
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.layer_norm_rms_epsilon",
        "attention.key_length",
        "attention.value_length",
        "vocab_size",
    }
)
"""What transformers reads of a header, or takes from the shapes; any other setting would be lost without a word."""
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Those whose conversion is tested to give the log-probs of the model that the file was written from."""
SPLITS = ("gpt-2", "smollm", "llama-bpe", "llama3", "llama-v3", "qwen2", "deepseek-r1-qwen", "tekken")
"""Ways to cut a text before the merges of a byte-level vocabulary that transformers knows by the file's names for them."""
REMEDY = "name the repository, or folder, of safetensors that it was made from"
BYTES_PER_PARAMETER = 4
PIECE = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


def with_safetensors(spec: RunSpec, tell: Callable[[str], None]) -> RunSpec:
    """The spec with the folder that its GGUF was converted into; any other spec as it is. Raises ModelError."""
    file = gguf_file(spec.model.path)
    if file is None:
        return spec
    model = spec.model.model_copy(update={"path": str(converted(file, tell))})
    return spec.model_copy(update={"model": model})


def gguf_file(path: str) -> Path | None:
    """The GGUF file that a path names, or the only one of a folder without safetensors; else None. Raises ModelError."""
    place = Path(path)
    if place.is_file():
        return place if place.suffix.lower() == ".gguf" else None
    if not place.is_dir() or any(place.glob("*.safetensors")):
        return None
    files = sorted(file for file in place.iterdir() if file.suffix.lower() == ".gguf")
    models = [file for file in files if not file.name.lower().startswith("mmproj")] or files
    if len(models) > 1 and not all(PIECE.search(file.name) for file in models):  # pieces are refused by their header
        names = ", ".join(file.name for file in models[:4])
        raise ModelError(f"model.path {path}: the folder holds {len(models)} GGUF files ({names}); name one of them")
    return models[0] if models else None


def converted(file: Path, tell: Callable[[str], None]) -> Path:
    """The file as a folder of safetensors in the user's cache, where its content decides the folder. Raises ModelError."""
    header = read_header(file)
    check_readable(file, header)
    with file.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    folder = user_cache() / "gguf" / content
    if not (folder / ORIGIN).exists():
        _convert(file, header, folder, tell)
    tell(f"{_sentence(file.name, header.architecture, header.quantisation)} ({folder})")
    return folder


def check_readable(file: Path, header: GgufHeader) -> None:
    """Raises ModelError where the conversion would fail, or would lose something."""
    named = f"{file}: a GGUF of {header.architecture} in {header.quantisation}"
    if header.metadata.get("split.count", 1) > 1:
        raise ModelError(f"{named} that is cut into pieces; join them with `llama-gguf-split --merge`, or {REMEDY}")
    if header.architecture in ("clip", "mmproj") or header.metadata.get("general.type", "model") != "model":
        raise ModelError(
            f"{named}, which is a part of a model and no language model; name the file of the language model"
        )
    if header.architecture not in ARCHITECTURES:
        raise ModelError(f"{named}: that architecture is not read ({', '.join(ARCHITECTURES)} are); {REMEDY}")
    unknown = sorted(key for key in header.settings() if key not in SETTINGS and not _says_nothing(header, key))
    if unknown:
        raise ModelError(f"{named}: its setting {', '.join(unknown[:3])} cannot be taken over; {REMEDY}")
    turned, head = header.settings().get("rope.dimension_count"), header.settings().get("attention.key_length")
    if None not in (turned, head) and turned != head:
        raise ModelError(f"{named} that turns {turned} of the {head} numbers of a head, which is not read; {REMEDY}")
    if "tokenizer.ggml.tokens" not in header.metadata:
        raise ModelError(f"{named} without a tokenizer; {REMEDY}")
    split = header.metadata.get("tokenizer.ggml.pre", "default")
    if header.metadata.get("tokenizer.ggml.model") == "gpt2" and split not in SPLITS:
        raise ModelError(f"{named}: its way to cut texts, {split!r}, is not known ({', '.join(SPLITS)} are); {REMEDY}")
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{named}: reading it needs the package gguf; install it (pip install gguf), or {REMEDY}")


def _says_nothing(header: GgufHeader, key: str) -> bool:
    """Whether a setting has the value that it would have anyway."""
    value = header.settings()[key]
    return (key, value) in (("rope.scaling.type", "none"), ("expert_count", 0), ("expert_used_count", 0))


def origin_of(path: str) -> str | None:
    """What a run's log says of a model that was converted; None of any other."""
    record = Path(path) / ORIGIN
    if not record.is_file():
        return None
    made = json.loads(record.read_text(encoding="utf-8"))
    return _sentence(made["file"], made["architecture"], made["quantisation"])


def _sentence(name: str, architecture: str, quantisation: str) -> str:
    return (
        f"the model is the GGUF {name} ({architecture}, {quantisation}), dequantised to float32; what is trained and exported "
        "are safetensors, and the rounding of its quantisation stays in them"
    )


def _convert(file: Path, header: GgufHeader, folder: Path, tell: Callable[[str], None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    needs = BYTES_PER_PARAMETER * sum(tensor.elements for tensor in header.tensors)
    if (free := shutil.disk_usage(folder.parent).free) < needs:
        raise ModelError(
            f"{file}: dequantised it takes {needs / 2**30:.1f} GiB, and {folder.parent} has room for {free / 2**30:.1f} GiB; "
            "make room, or set XDG_CACHE_HOME to a folder on another disk"
        )
    tell(
        f"{file.name}: {header.architecture} in {header.quantisation} is dequantised, once, to {needs / 2**30:.1f} GiB"
    )
    words = [sys.executable, "-m", "xpo_ray.gguf_conversion", str(file.resolve()), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    if done.returncode < 0:
        raise ModelError(
            f"{file}: the conversion was ended by signal {-done.returncode}, perhaps for want of memory (it needs about "
            f"{needs / 2**30:.1f} GiB); free some, or {REMEDY}"
        )
    if done.returncode != 0:
        raise ModelError(next(reversed(done.stderr.strip().splitlines()), f"{file}: the conversion failed"))
