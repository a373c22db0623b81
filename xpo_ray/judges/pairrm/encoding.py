"""Token ids of a prompt with two responses, as PairRM-hf's `tokenize_pair` lays them out:

    [CLS] <|source|> prompt [SEP]  [CLS] <|candidate1|> left [SEP]  [CLS] <|candidate2|> right [SEP]

Each pair is cut by its own lengths alone: the prompt to `max_source_tokens`, each response to half of what the prompt leaves of
`max_tokens`, both on the right. (LLM-Blender's collator cuts by the longest prompt of the batch.) Texts are not trusted: what
they hold of the tokenizer's special and added tokens is left out, so that no text can end its segment or begin another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from xpo_ray.errors import JudgeError

Ids = tuple[int, ...]
SOURCE, LEFT, RIGHT, EITHER = "<|source|>", "<|candidate1|>", "<|candidate2|>", "<|candidate|>"
PREFIXES = (SOURCE, LEFT, RIGHT, EITHER)
"""In the order in which LLM-Blender adds them to the tokenizer of deberta-v3-large."""
MARKS = 3
"""Tokens of a segment that are not of its text: CLS, the prefix and SEP."""


@dataclass(frozen=True)
class Pair:
    """One input: its ids, and the places of the three prefixes, at which the head reads."""

    ids: Ids
    places: tuple[int, int, int]


class PairEncoding:
    """Texts to ids to pairs, with the tokenizer of a checkpoint. `path` is the spec's, for messages."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, path: str, *, max_source_tokens: int, max_tokens: int
    ) -> None:
        self._tokenizer = tokenizer
        self._max_source, self._max = max_source_tokens, max_tokens
        self.source_id, self.left_id, self.right_id = (
            prefix_id(tokenizer, text, path) for text in (SOURCE, LEFT, RIGHT)
        )
        self._cls, self._sep = _mark(tokenizer, "cls_token", path), _mark(tokenizer, "sep_token", path)
        marks = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
        self._left_out = marks - {tokenizer.unk_token_id}

    def source(self, text: str) -> Ids:
        """The ids of a prompt's text, whole."""
        return self._text_ids([text], SOURCE)[0]

    def candidates(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each response's text, whole; they are the same on the left and on the right."""
        return self._text_ids(texts, LEFT)

    def fits(self, source: Ids) -> bool:
        """Whether a prompt loses nothing."""
        return len(source) <= self._max_source - MARKS

    def cut_source(self, source: Ids) -> Ids:
        return source[: self._max_source - MARKS]

    def room(self, source: Ids) -> int:
        """Tokens that a response's text may have beside this prompt."""
        return (self._max - len(self.cut_source(source)) - MARKS) // 2 - MARKS

    def pair(self, source: Ids, left: Ids, right: Ids) -> Pair:
        """A prompt with one response on the left and one on the right, each cut to its room."""
        room = self.room(source)
        first = self._segment(self.source_id, self.cut_source(source))
        second = self._segment(self.left_id, left[:room])
        third = self._segment(self.right_id, right[:room])
        return Pair((*first, *second, *third), (1, len(first) + 1, len(first) + len(second) + 1))

    def _segment(self, prefix: int, text: Ids) -> Ids:
        return (self._cls, prefix, *text, self._sep)

    def _text_ids(self, texts: Sequence[str], prefix: str) -> list[Ids]:
        """Tokenised behind their prefix, because a tokenizer may treat what follows a token of its own in a special way."""
        if not texts:
            return []
        rows = self._tokenizer([prefix + text for text in texts], add_special_tokens=False, verbose=False)["input_ids"]
        return [tuple(i for i in ids[1:] if i not in self._left_out) for ids in rows]


def prefix_id(tokenizer: PreTrainedTokenizerBase, prefix: str, path: str) -> int:
    """The id of one of the prefixes, which the tokenizer must know as one token."""
    found = tokenizer.convert_tokens_to_ids(prefix)
    if (
        found is None
        or found == tokenizer.unk_token_id
        or tokenizer(prefix, add_special_tokens=False)["input_ids"] != [found]
    ):
        raise JudgeError(
            f"judge.path {path}: its tokenizer does not know {prefix} as one token; give the tokenizer of PairRM-hf, whose "
            f"added tokens are {', '.join(PREFIXES)}"
        )
    return int(found)


def _mark(tokenizer: PreTrainedTokenizerBase, name: str, path: str) -> int:
    found = getattr(tokenizer, f"{name}_id")
    if found is None:
        raise JudgeError(f"judge.path {path}: its tokenizer has no {name}; give the tokenizer of deberta-v3-large")
    return int(found)
