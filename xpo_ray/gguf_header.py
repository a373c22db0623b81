"""What a GGUF file says of itself: architecture, settings, and the type and shape of each tensor. No weight is read.

xpo_ray.gguf_files decides by it what can be read; neither gguf nor torch is imported, so that a file is also refused by its
name where they are missing. The layout is that of GGUF 2 and 3.
"""

import math
import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpo_ray.errors import ModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""Of the values that have a fixed width, by their type."""
TYPE_NAMES = (
    "F32 F16 Q4_0 Q4_1 4 5 Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ2_S "
    "IQ4_XS I8 I16 I32 I64 F64 IQ1_M BF16 31 32 33 TQ1_0 TQ2_0 36 37 38 MXFP4 NVFP4"
)
"""Of tensors, in the order of their numbers; a number stands for itself where nothing has it any more."""
TENSOR_TYPES = dict(enumerate(TYPE_NAMES.split()))
MAX_DIMENSIONS = 4


@dataclass(frozen=True)
class TensorHeader:
    """A tensor's name, number of elements and type."""

    name: str
    elements: int
    type: str


@dataclass(frozen=True)
class GgufHeader:
    """Metadata and tensors of one file."""

    metadata: dict[str, Any]
    tensors: tuple[TensorHeader, ...]

    @property
    def architecture(self) -> str:
        """In llama.cpp's spelling, such as llama or qwen2."""
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def quantisation(self) -> str:
        """The type that most elements have."""
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            sizes[tensor.type] += tensor.elements
        return sizes.most_common(1)[0][0] if sizes else "no tensors"

    def settings(self) -> dict[str, Any]:
        """The metadata of the architecture, without its name in front."""
        start = f"{self.architecture}."
        return {key.removeprefix(start): value for key, value in self.metadata.items() if key.startswith(start)}


def read_header(file: Path) -> GgufHeader:
    """Raises ModelError where the file is no GGUF, too old, or cut short."""
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Cursor(content).header()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error}") from error
    except (ValueError, struct.error, KeyError, IndexError) as error:
        raise ModelError(f"{file}: not a GGUF file, or cut short ({error}); download it again") from error


class _Cursor:
    """Reads from the front of a file to the back."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.at = 0

    def header(self) -> GgufHeader:
        magic, version = self._bytes(len(MAGIC)), self._number("<I")
        if magic != MAGIC or version not in VERSIONS:
            raise ValueError(f"it begins with {magic!r}, version {version}")
        tensors, entries = self._number("<Q"), self._number("<Q")
        metadata = {self._string(): self._value(self._number("<I")) for _ in range(entries)}
        return GgufHeader(metadata, tuple(self._tensor() for _ in range(tensors)))

    def _tensor(self) -> TensorHeader:
        name, dimensions = self._string(), self._number("<I")
        if dimensions > MAX_DIMENSIONS:
            raise ValueError(f"tensor {name!r} has {dimensions} dimensions")
        elements = math.prod(self._number("<Q") for _ in range(dimensions))
        number, _offset = self._number("<I"), self._number("<Q")
        return TensorHeader(name, elements, TENSOR_TYPES.get(number, str(number)))

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            inner, length = self._number("<I"), self._number("<Q")
            return [self._value(inner) for _ in range(length)]
        return self._number(FORMATS[kind])

    def _string(self) -> str:
        return self._bytes(self._number("<Q")).decode("utf-8", errors="replace")

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))[0]

    def _bytes(self, count: int) -> bytes:
        found = self.content[self.at : self.at + count]
        if len(found) < count:
            raise ValueError(f"it ends within its header, at byte {len(self.content)}")
        self.at += count
        return found
