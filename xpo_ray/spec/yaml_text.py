"""The text of a spec as plain data: YAML in which a value is what it looks like, else it is refused with line and column.

The loader of specs calls `read_text` and `parse`. YAML 1.1 reads 010 as 8 and 1:30 as 90; nobody who writes them means that.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
VARIABLE = re.compile(r"\$\{\w+\}|(?:^|(?<=/))\$[A-Za-z_]\w*")


class Misread(yaml.constructor.ConstructorError):
    """A value that YAML would read as something else."""


class _Loader(yaml.SafeLoader):
    """Safe, and a key may stand only once: of two, one would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        nodes = [key for key, _ in node.value if not key.tag.endswith(":merge")]
        keys = [self.construct_object(key, deep=True) for key in nodes]
        for i, (key_node, key) in enumerate(zip(nodes, keys, strict=True)):
            if key in keys[:i]:
                raise yaml.constructor.ConstructorError(
                    "in this mapping", node.start_mark, f"the key {key!r} stands twice", key_node.start_mark
                )
        return super().construct_mapping(node, deep)

    def whole_number(self, node: yaml.ScalarNode) -> int:
        _check_number(node)
        return int(self.construct_yaml_int(node))

    def number(self, node: yaml.ScalarNode) -> float:
        _check_number(node)
        return float(self.construct_yaml_float(node))

    def text(self, node: yaml.ScalarNode) -> str:
        if node.style is None and LEADING_ZERO.fullmatch(node.value):
            _check_number(node)
        if (variable := VARIABLE.search(node.value)) is not None:
            raise _misread(node, f"{variable.group()} is not filled in, for a spec has no variables; write its value")
        return str(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.whole_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.number)
_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.text)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.text)


def parse(text: str) -> Any:
    """The data in a YAML text. Raises yaml.YAMLError, whose place and fault `said` tells."""
    return yaml.load(text, _Loader)


def read_text(path: Path) -> str:
    """The text of a file: UTF-8, or UTF-16 where its mark says so. Raises OSError and ValueError with line and column."""
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, "replace")
        byte = f"byte 0x{content[error.start]:02x}"
        raise ValueError(f"{_place(before)}: {byte} is not {error.encoding}; save the file as UTF-8") from error


def said(error: yaml.YAMLError, text: str) -> str:
    """Where and what, on one line."""
    if isinstance(error, yaml.reader.ReaderError):
        character = f"the character U+{error.character:04X}" if isinstance(error.character, int) else "a character"
        return f"{_place(text[: error.position])}: {character} may not stand in YAML; remove it"
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    if "'\\t'" in problem:
        problem += "; indent by blanks and not by tabs"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark is not None else problem


def _check_number(node: yaml.ScalarNode) -> None:
    """Refuse a number that YAML 1.1 reads in base 8 or 60."""
    if ":" in node.value:
        raise _misread(node, f"{node.value} would be read in base 60; write the number, or the text in quotes")
    if LEADING_ZERO.fullmatch(node.value):
        raise _misread(
            node,
            f"{node.value} begins with 0 and might be read in base 8; write the number without it, or the text in quotes",
        )


def _misread(node: yaml.Node, problem: str) -> Misread:
    return Misread(None, None, problem, node.start_mark)


def _place(before: str) -> str:
    """Line and column behind a text."""
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
