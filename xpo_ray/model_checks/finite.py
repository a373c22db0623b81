"""NaN and infinity in the weights of a folder: read once, before a run begins, by the process that prepares it.

The verdict is kept beside those of rehearsals, by file, size and time of change, so that a resume reads nothing. No torch:
the bits of a number tell whether it is finite.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from xpo_ray.errors import ModelError
from xpo_ray.kept_verdicts import KeptVerdicts
from xpo_ray.model_files import StoredTensor, stored_tensors

EXPONENT = {"F64": ("<u8", 0x7FF0 << 48), "F32": ("<u4", 0x7F80 << 16), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
"""Type of safetensors → how its bits are read, and the bits of a number whose exponent is full: infinity, or NaN with more."""
AT_ONCE = 1 << 18
"""Bytes that are looked at together, so that they stay near the processor."""
NO_WEIGHTS = ("masked_bias", "attn.bias", "inv_freq", "causal_mask", "attention.bias")
"""Ends of names of buffers that older checkpoints hold and nobody reads; masks among them are infinite."""


def refuse_not_finite(folder: Path, verdicts: KeptVerdicts) -> None:
    """Raises ModelError where a weight is NaN or infinite, naming tensor and file."""
    tensors = [t for t in stored_tensors(folder).items() if t[1].dtype in EXPONENT and not t[0].endswith(NO_WEIGHTS)]
    key = ["finite", *sorted({_state(tensor.file) for _, tensor in tensors})]
    told = verdicts.find(key)
    if told is None:
        told = _fault(tensors)
        verdicts.keep(key, told)
    if told:
        raise ModelError(f"model.path {folder}: {told}")


def _state(file: Path) -> str:
    seen = file.stat()
    return f"{file.resolve()}:{seen.st_ino}:{seen.st_size}:{seen.st_mtime_ns}"


def _fault(tensors: Iterable[tuple[str, StoredTensor]]) -> str:
    """What is wrong, nothing where all is well."""
    for name, tensor in tensors:
        largest, full = largest_bits(tensor), EXPONENT[tensor.dtype][1]
        if largest > full or (largest == full and name.endswith("weight")):
            what = "infinity" if largest == full else "NaN"
            half = (
                ", as values have that were too large for 16 bits"
                if what == "infinity" and tensor.dtype == "F16"
                else ""
            )
            return (
                f"the weights hold {what}: {name} in {tensor.file.name}{half}; what is computed with them is nan; write the "
                "model anew, from before it broke"
            )
    return ""


def largest_bits(tensor: StoredTensor) -> int:
    """The bits of the number that is largest without its sign."""
    kind, full = EXPONENT[tensor.dtype]
    size = np.dtype(kind).itemsize
    count = (tensor.end - tensor.begin) // size
    if not count:
        return 0
    bits = np.memmap(tensor.file, mode="r", dtype=kind, offset=tensor.begin, shape=(count,))
    unsigned = np.array((1 << (8 * size - 1)) - 1, dtype=kind)
    part, largest = AT_ONCE // size, 0
    for first in range(0, count, part):
        largest = max(largest, int((bits[first : first + part] & unsigned).max()))
        if largest >= full:
            break
    return largest
