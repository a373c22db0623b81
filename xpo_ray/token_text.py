"""A tokenizer's texts: its special tokens, and the ids of a text that goes on behind another one.

Chat calls this. Tokenizers of the SentencePiece kind put a space before a text that begins; a text that goes on must not get
it.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TokenText:
    """Of one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.items()
        self.specials = frozenset(str(token) for _, token in added if token.special and str(token).strip())

    def id_of(self, token: str) -> int:
        """The id of a token of the vocabulary."""
        return int(self.tokenizer.convert_tokens_to_ids(token))

    def text_of(self, token_id: int) -> str:
        """The text of one id, special tokens included."""
        text: str = self.tokenizer.decode([token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def spells_specials(self, text: str) -> bool:
        """Whether special tokens are spelled in a text, which an encoding of the whole conversation would take for them."""
        return self._specials.search(text) is not None

    def behind(self, prompt: str, text: str, spelled: str) -> list[int]:
        """The ids of a text that stands behind a prompt. Special tokens in it are the template's, but those in `spelled`, the
        part that the dataset wrote, stay text."""
        if not self.spells_specials(spelled):
            return self._in_place(prompt, text)
        begin = text.find(spelled.strip())
        if begin < 0:
            return self._in_place(prompt, text, split=True)
        head = [m.end() for m in self._specials.finditer(text[:begin])]
        border, end = (head[-1] if head else 0), begin + len(spelled.strip())
        before = self._in_place(prompt, text[:border]) if border else []
        after = self._in_place(text[:end], text[end:]) if text[end:] else []
        return [*before, *self._in_place(prompt + text[:border], text[border:end], split=True), *after]

    def difference(self, one: Sequence[int], other: Sequence[int], names: tuple[str, str], before: int = 0) -> str:
        """The first token in which two sequences differ; `before` of them are equal and not given."""
        pairs = zip(one, other, strict=False)
        i = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
        first, second = (self._shown(ids[i : i + 1]) for ids in (one, other))
        return f"at token {before + i + 1} {names[0]} has {first}, {names[1]} {second}"

    def _shown(self, ids: Sequence[int]) -> str:
        return f"{self.text_of(ids[0])!r} (id {ids[0]})" if ids else "nothing more"

    def _in_place(self, prompt: str, text: str, *, split: bool = False) -> list[int]:
        if not self._begins_with_space:
            return self._ids(text, split)
        for anchor in (self._last_stretch(prompt), "\n"):
            head, both = self._ids(anchor, split), self._ids(anchor + text, split)
            if both[: len(head)] == head:
                return both[len(head) :]
        return self._ids(text, split)

    def _last_stretch(self, prompt: str) -> str:
        """The end of a prompt, from its last special token."""
        found = [m.start() for m in self._specials.finditer(prompt)]
        return prompt[found[-1] :] if found else prompt

    def _ids(self, text: str, split: bool) -> list[int]:
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=split, verbose=False)
        return list(encoded["input_ids"])

    @cached_property
    def _begins_with_space(self) -> bool:
        """Whether a text that begins has other ids than one that goes on."""
        return self._ids("\na", False)[-1:] != self._ids("a", False)

    @cached_property
    def _specials(self) -> re.Pattern[str]:
        longest_first = sorted(self.specials, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
