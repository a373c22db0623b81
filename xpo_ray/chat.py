"""Chat: the one place where messages become the policy's token ids, and ids become text (DESIGN §4.6).

The prompt tables, the engines and the evaluation call it. Judges never do: they read messages and have tokenizers of their
own. Nothing here pads or builds tensors.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpo_ray.answers import Turn, read_turn, written_answer
from xpo_ray.chat_files import generation_eos_ids, load_tokenizer, own_template, template_file
from xpo_ray.chat_template import ChatTemplate
from xpo_ray.errors import ModelError
from xpo_ray.judges.judgement import Message
from xpo_ray.spec.data import ModelSpec
from xpo_ray.token_text import TokenText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHECKED_ANSWERS = 8
"""Answers of each kind whose ids are compared with those of the whole conversation."""


class Chat:
    """A tokenizer with the template that prompts are rendered with.

    `template` None joins the contents by blank lines; with `joins_turns` False that is refused for conversational prompts.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        name: str,
        template: str | None,
        joins_turns: bool = False,
        more_eos_ids: Iterable[int] = (),
        end_of_turn: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        clock: datetime | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.joins_turns = joins_turns
        self.end_of_turn = end_of_turn
        self.tokens = TokenText(tokenizer)
        self.template: ChatTemplate | None = None
        if template is not None:
            now = clock or datetime.now()
            self.template = ChatTemplate(tokenizer, name, template, template_arguments or {}, clock=now).fitted()
        own = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        declared = (*own, *more_eos_ids)
        asked = None if end_of_turn is None else self._token_id(end_of_turn)
        self.turn = self._turn(declared)
        found = None if self.turn is None or self.turn.end is None else self.tokens.id_of(self.turn.end)
        ends = [i for i in (asked, found, *declared) if i is not None]
        if not ends:
            raise ModelError(
                f"{name}: no end-of-sequence token, so responses could not end; set eos_token in tokenizer_config.json "
                "or eos_token_id in generation_config.json"
            )
        self.eos_id = ends[0]
        """Ends the responses of a dataset: model.end_of_turn, else what the template writes behind an answer, else the
        tokenizer's EOS."""
        self.eos_ids = tuple(sorted(set(ends)))
        """Any of these ends a draw."""
        self.pad_id = self.eos_id if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        """Any valid id: what is padded is masked."""
        self._rendered: tuple[tuple[Message, ...], str] = ((), "")
        """The last prompt: a row renders it for itself and for both answers."""
        self._checked: Counter[tuple[str, ...]] = Counter()

    @classmethod
    def of(cls, model: ModelSpec, clock: datetime | None = None) -> "Chat":
        """The chat of a run's model; `clock` is what a template takes for the date. Raises ModelError."""
        return cls.load(
            model.path,
            model.revision,
            model.chat_template,
            model.end_of_turn,
            template_arguments=model.template_arguments,
            clock=clock,
        )

    @classmethod
    def load(
        cls,
        path: str,
        revision: str | None,
        chat_template: str,
        end_of_turn: str | None = None,
        *,
        template_arguments: Mapping[str, Any] | None = None,
        clock: datetime | None = None,
    ) -> "Chat":
        """The chat of a model folder or hub repository; the others as in ModelSpec. Raises ModelError."""
        tokenizer = load_tokenizer(path, revision)
        if chat_template == "plain":
            template = None
        elif chat_template == "tokenizer":
            template = own_template(tokenizer, path)
        else:
            template = template_file(Path(chat_template))
        chat = cls(
            tokenizer,
            name=path,
            template=template,
            joins_turns=chat_template == "plain",
            more_eos_ids=generation_eos_ids(path, revision),
            end_of_turn=end_of_turn,
            template_arguments=template_arguments,
            clock=clock,
        )
        if template is not None:
            chat.prompt_ids([Message(role="user", content="Hello.")])  # a template that cannot render this is broken
        return chat

    def prompt_ids(self, messages: Sequence[Message], *, conversational: bool = True) -> list[int]:
        """What the model reads before it answers: special tokens and the generation prompt included, one BOS at most.

        `conversational` False says that the dataset gave a plain string. Raises ModelError.
        """
        text = self._prompt(messages, conversational)
        if self.template is not None:
            self.template.check_holds(messages, text)
        return self._encode(text, special_tokens=self.template is None)

    def _prompt(self, messages: Sequence[Message], conversational: bool) -> str:
        if self.template is not None:
            if self._rendered[0] != (asked := tuple(messages)):
                self._rendered = (asked, self.template.prompt(asked))
            return self._rendered[1]
        if conversational and not self.joins_turns:
            raise ModelError(
                f"{self.name}: the tokenizer has no chat template, and the prompts are conversations; set "
                "model.chat_template to plain (contents joined by blank lines) or to the path of a Jinja file"
            )
        return "\n\n".join(m["content"] for m in messages)

    def response_ids(self, messages: Sequence[Message], text: str, limit: int) -> tuple[list[int], bool]:
        """A dataset's answer to a prompt as ids and whether it ended: what a draw would have to be for the conversation to
        be what the template writes, its end of turn included; over the limit it is cut and has none.

        Special tokens that are spelled in the text stay text, but for end tokens at its end. Raises ModelError.
        """
        text = self._without_ends(text)
        if self.template is None:
            prompt = self._prompt(messages, conversational=False)
            ids = self.tokens.behind(prompt, text, text)
        else:
            prompt = self._prompt(messages, conversational=True)
            written = written_answer(self.template, self.turn, messages, prompt, text, self._first_difference)
            ids = self.tokens.behind(prompt, written, text)
            self._compare(messages, prompt, written, text, ids)
        if len(ids) + 1 > limit:
            return ids[:limit], False
        return [*ids, self.eos_id], True

    def decode(self, ids: Sequence[int]) -> str:
        """The text of drawn ids, without EOS and other special tokens."""
        kept = list(ids)
        while kept and kept[-1] in self.eos_ids:
            kept.pop()
        text: str = self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def record(self) -> dict[str, Any]:
        """What a run's record and its result say of the template."""
        ends = [str(self.tokenizer.convert_ids_to_tokens(i)) for i in (self.eos_id, *self.eos_ids)]
        template = self.template
        return {
            "template": None if template is None else template.text,
            "template_arguments": {} if template is None else dict(template.arguments),
            "end_of_turn": ends[0],
            "ends_of_draws": ends[1:],
            "clock": None if template is None else template.clock.isoformat(),
        }

    def warnings(self) -> list[str]:
        """What a user should look at."""
        unread = [] if self.template is None else self.template.unread_arguments()
        return [
            f"model.template_arguments.{name}: the chat template of {self.name} never reads {name}, so it changes nothing"
            for name in unread
        ]

    def _turn(self, declared: Sequence[int]) -> Turn | None:
        if self.template is None:
            return None
        ends = {text for i in declared if (text := self.tokens.text_of(i)).strip()}
        return read_turn(self.template, self.tokens.specials | ends, ends)

    @cached_property
    def _end_texts(self) -> tuple[str, ...]:
        return tuple(text for i in self.eos_ids if (text := self.tokens.text_of(i)).strip())

    def _without_ends(self, text: str) -> str:
        """An answer without end tokens that are spelled at its end."""
        while (bare := text.rstrip()).endswith(self._end_texts):
            text = bare.removesuffix(next(end for end in self._end_texts if bare.endswith(end)))
        return text

    def _compare(self, messages: Sequence[Message], prompt: str, written: str, text: str, ids: list[int]) -> None:
        """Of the first answers of each kind: the response's ids against those of the whole conversation behind the prompt's,
        where the prompt is its beginning in ids too. Raises ModelError."""
        kind = tuple(m["role"] for m in messages[:3])
        if self._checked[kind] >= CHECKED_ANSWERS or self.tokens.spells_specials(text):
            return
        self._checked[kind] += 1
        whole = self._encode(self._conversation(messages, prompt, written, text), special_tokens=False)
        begin = self._encode(prompt, special_tokens=False)
        behind = whole[len(begin) : len(begin) + len(ids)]
        if whole[: len(begin)] == begin and behind != ids:
            names = ("the conversation", "the answer")
            raise ModelError(
                f"{self.name}: the ids of an answer are not those of the conversation that the chat template writes: "
                f"{self.tokens.difference(behind, ids, names, len(begin))}; name another template in model.chat_template"
            )

    def _conversation(self, messages: Sequence[Message], prompt: str, written: str, text: str) -> str:
        """The conversation as the template writes it; where no token ends the answer's turn, only up to the answer's end."""
        if self.template is not None and self.turn is not None and self.turn.end is not None:
            whole = self.template.conversation([*messages, Message(role="assistant", content=text)])
            if whole.startswith(prompt + written):
                return whole
        return prompt + written

    def _first_difference(self, one: str, other: str, names: tuple[str, str]) -> str:
        ids = [self._encode(text, special_tokens=False) for text in (one, other)]
        return self.tokens.difference(ids[0], ids[1], names)

    def _token_id(self, token: str) -> int:
        """The id of model.end_of_turn. Raises ModelError."""
        known: int | None = self.tokenizer.get_vocab().get(token)
        if known is None:
            raise ModelError(
                f"{self.name}: model.end_of_turn {token!r} is no token of its vocabulary; give the one that ends a turn in "
                f"its chat template, or leave it out where that is the tokenizer's EOS, {self.tokenizer.eos_token!r}"
            )
        return known

    def _encode(self, text: str, *, special_tokens: bool) -> list[int]:
        """The ids of a prompt; a second BOS, and an EOS that the tokenizer adds behind a text, are left out."""
        ids: list[int] = list(self.tokenizer(text, add_special_tokens=special_tokens, verbose=False)["input_ids"])
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        if bos is not None and ids[:2] == [bos, bos]:
            ids = ids[1:]
        if (
            special_tokens
            and eos is not None
            and ids[-1:] == [eos]
            and not text.endswith(str(self.tokenizer.eos_token))
        ):
            ids = ids[:-1]
        return ids
