"""`python -m xpo_ray.gguf_conversion FILE FOLDER`: a GGUF file as a Hugging Face folder of float32 safetensors.

xpo_ray.gguf_files calls it in a process of its own, so that the dequantised weights are gone afterwards. What transformers
would leave out silently is refused: a setting that it does not read, a tensor that it does not use.
"""

import hashlib
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpo_ray.errors import ModelError
from xpo_ray.gguf_files import ORIGIN, REMEDY, check_readable
from xpo_ray.gguf_header import GgufHeader, read_header

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROPE_FACTORS = "rope_freqs.weight"
LLAMA_3_FACTORS = (8.0, 32.0)
"""By which Llama 3.1 and 3.2 stretch their positions; the file holds only the divisors that follow from it."""
END_TOKENS = ("eos_token_id", "eot_token_id", "eom_token_id")


def convert(file: Path, folder: Path) -> None:
    """Write the folder, whole or not at all; one that is whole stays. Raises ModelError."""
    header = read_header(file)
    check_readable(file, header)
    if (folder / ORIGIN).exists():
        return
    if folder.exists():
        raise ModelError(
            f"{folder}: is there, and is no model that was converted from GGUF; name a new folder, or remove it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as aside:
        made = Path(aside) / folder.name
        _write(file, header, made)
        try:
            made.rename(folder)
        except OSError:
            if not (folder / ORIGIN).exists():  # else another process was faster
                raise


def _write(file: Path, header: GgufHeader, folder: Path) -> None:
    from transformers import AutoTokenizer

    model = _model(file, header)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    _end_turns(model, header)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _keep_to_vocabulary(folder / "tokenizer.json", len(header.metadata["tokenizer.ggml.tokens"]))
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    origin = {"file": file.name, "sha256": sha256}
    origin |= {"architecture": header.architecture, "quantisation": header.quantisation}
    (folder / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")


def _keep_to_vocabulary(file: Path, tokens: int) -> None:
    """transformers adds a token of its own behind a vocabulary that lacks it; the model has no embedding for it."""
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["id"] < tokens]
    file.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def _model(file: Path, header: GgufHeader) -> "PreTrainedModel":
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
        if (head_dim := header.settings().get("attention.key_length")) is not None:
            config.head_dim = head_dim
        model, told = AutoModelForCausalLM.from_pretrained(
            file.parent, config=config, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ModelError(
            f"{file}: {header.architecture} in {header.quantisation} could not be dequantised "
            f"({type(error).__name__}: {error}); {REMEDY}"
        ) from error
    _check_whole(file, header, model, told)
    # The weights are dense: what they were quantised by must not be written beside them.
    model.is_quantized, model.hf_quantizer = False, None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    _stretch_positions(file, header, model)
    return model


def _check_whole(file: Path, header: GgufHeader, model: "PreTrainedModel", told: dict[str, Any]) -> None:
    """Every parameter comes from the file, and every tensor of the file went into one."""
    lacking = sorted(map(str, (*told["missing_keys"], *told["mismatched_keys"])))
    if lacking:
        raise ModelError(
            f"{file}: has no tensor for {', '.join(lacking[:3])}, or one of another shape; download it again, or {REMEDY}"
        )
    held = sum(p.numel() for p in model.parameters())
    given = sum(t.elements for t in header.tensors if t.name != ROPE_FACTORS)
    if held != given:
        raise ModelError(
            f"{file}: holds {given:,} numbers, and a {header.architecture} of its settings has {held:,}: some would be left "
            f"out; {REMEDY}"
        )


def _stretch_positions(file: Path, header: GgufHeader, model: "PreTrainedModel") -> None:
    """Llama 3.1 and later read their positions stretched, of which the file keeps the divisor of each frequency."""
    if all(tensor.name != ROPE_FACTORS for tensor in header.tensors):
        return
    import numpy as np
    from gguf import GGUFReader

    found = next(t.data for t in GGUFReader(file).tensors if t.name == ROPE_FACTORS)
    theta = float(header.settings()["rope.freq_base"])
    for factor in LLAMA_3_FACTORS:
        stretched = {"rope_type": "llama3", "rope_theta": theta, "factor": factor, "low_freq_factor": 1.0}
        stretched |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
        if np.allclose(found, llama3_divisors(theta, 2 * len(found), factor), rtol=1e-3):
            model.config.rope_parameters = stretched
            return
    raise ModelError(
        f"{file}: {ROPE_FACTORS} stretches positions in a way that is neither Llama 3.1's nor 3.2's; {REMEDY}"
    )


def llama3_divisors(theta: float, head_dim: int, factor: float) -> list[float]:
    """What Llama 3 divides each rotary frequency by: 1 for short waves, `factor` for those longer than the 8,192 positions
    that it was first trained on, between them a blend."""
    divisors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * theta ** (i / head_dim)
        smooth = min(max((8192 / wavelength - 1.0) / (4.0 - 1.0), 0.0), 1.0)
        divisors.append(1.0 / ((1.0 - smooth) / factor + smooth))
    return divisors


def _end_turns(model: "PreTrainedModel", header: GgufHeader) -> None:
    """Each token that llama.cpp ends a turn at ends a draw here too."""
    known = (header.metadata.get(f"tokenizer.ggml.{name}") for name in END_TOKENS)
    if ends := sorted({int(i) for i in known if i is not None}):
        model.generation_config.eos_token_id = ends[0] if len(ends) == 1 else ends


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m xpo_ray.gguf_conversion FILE FOLDER")
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except ModelError as error:
        sys.exit(str(error))
