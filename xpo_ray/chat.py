"""Chat: the one place where messages become the policy's token ids, and ids become text (DESIGN §4.6).

The prompt tables, the engines and the evaluation call it. Judges never do: they read messages and have tokenizers of their
own. Nothing here pads or builds tensors.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xpo_ray.errors import ModelError
from xpo_ray.judges.judgement import Message
from xpo_ray.model_files import architecture, model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    ) -> None:
        self.tokenizer = tokenizer
        self.name = name
        self.template = template
        self.joins_turns = joins_turns
        self.end_of_turn = end_of_turn
        turn = () if end_of_turn is None else (self._token_id(end_of_turn),)
        own = () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)
        ends = (*turn, *own, *more_eos_ids)
        if not ends:
            raise ModelError(
                f"{name}: no end-of-sequence token, so responses could not end; set eos_token in tokenizer_config.json "
                "or eos_token_id in generation_config.json"
            )
        self.eos_id = ends[0]
        """Ends the responses of a dataset."""
        self.eos_ids = tuple(sorted(set(ends)))
        """Any of these ends a draw."""
        self.pad_id = self.eos_id if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
        """Any valid id: what is padded is masked."""

    @classmethod
    def load(cls, path: str, revision: str | None, chat_template: str, end_of_turn: str | None = None) -> "Chat":
        """The chat of a model folder or hub repository; the last two as in ModelSpec. Raises ModelError."""
        tokenizer = _tokenizer(path, revision)
        if chat_template == "plain":
            template = None
        elif chat_template == "tokenizer":
            template = tokenizer.get_chat_template() if tokenizer.chat_template else None
        else:
            template = _template_file(Path(chat_template))
        chat = cls(
            tokenizer,
            name=path,
            template=template,
            joins_turns=chat_template == "plain",
            more_eos_ids=_generation_eos_ids(path, revision),
            end_of_turn=end_of_turn,
        )
        if template is not None:
            chat.prompt_ids([Message(role="user", content="Hello.")])  # a template that cannot render this is broken
        return chat

    def prompt_ids(self, messages: Sequence[Message], *, conversational: bool = True) -> list[int]:
        """What the model reads before it answers: special tokens and the generation prompt included, one BOS at most.

        `conversational` False says that the dataset gave a plain string. Raises ModelError.
        """
        if self.template is not None:
            return self._encode(self._rendered(messages), special_tokens=False)
        if conversational and not self.joins_turns:
            raise ModelError(
                f"{self.name}: the tokenizer has no chat template, and the prompts are conversations; set "
                "model.chat_template to plain (contents joined by blank lines) or to the path of a Jinja file"
            )
        return self._encode("\n\n".join(m["content"] for m in messages), special_tokens=True)

    def response_ids(self, text: str, limit: int) -> tuple[list[int], bool]:
        """A dataset's answer as ids and whether it ended: its text and one EOS; over the limit it is cut and has none.

        Special tokens that are spelled in the text stay text, but for an EOS at its end.
        """
        for end in (self.end_of_turn, self.tokenizer.eos_token):
            text = text.removesuffix(end) if isinstance(end, str) else text
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        ids: list[int] = list(encoded["input_ids"])
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

    def _token_id(self, token: str) -> int:
        """The id of model.end_of_turn. Raises ModelError."""
        known: int | None = self.tokenizer.get_vocab().get(token)
        if known is None:
            raise ModelError(
                f"{self.name}: model.end_of_turn {token!r} is no token of its vocabulary; give the one that ends a turn in "
                f"its chat template, or leave it out where that is the tokenizer's EOS, {self.tokenizer.eos_token!r}"
            )
        return known

    def _rendered(self, messages: Sequence[Message]) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                [dict(m) for m in messages], chat_template=self.template, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template is the user's code
            roles = ", ".join(m["role"] for m in messages)
            raise ModelError(
                f"{self.name}: the chat template failed on turns of {roles}: {type(error).__name__}: {error}; mend the "
                "template or name another in model.chat_template (plain, or the path of a Jinja file)"
            ) from error
        return text

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


def _tokenizer(path: str, revision: str | None) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    folder = model_folder(path)
    place = (
        f"{path}: no tokenizer that can be loaded" if folder else f"{path}: neither a folder here nor a hub repository"
    )
    remedy = "copy tokenizer.json and tokenizer_config.json there, or save with tokenizer.save_pretrained"
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=False
        )
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        raise ModelError(f"{place} ({_first_line(error)}); {remedy if folder else 'check name and network'}") from error
    if set(tokenizer.get_vocab().values()) <= set(
        tokenizer.all_special_ids
    ):  # what is made up where there are no files
        raise ModelError(f"{path}: the tokenizer has no vocabulary, its files are missing; {remedy}")
    if folder is not None and (folder / "config.json").exists():
        _check_vocabulary(path, folder, max(tokenizer.get_vocab().values()))
    return tokenizer


def _check_vocabulary(path: str, folder: Path, highest: int) -> None:
    """A token beyond the embeddings would end the run where a text first holds it."""
    sizes = architecture(folder)
    if sizes is not None and highest >= sizes.vocabulary:
        raise ModelError(
            f"{path}: its tokenizer has ids up to {highest}, the model has {sizes.vocabulary} embeddings; copy the tokenizer "
            "that the model was trained with there, or give the model more embeddings (resize_token_embeddings)"
        )


def _template_file(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"model.chat_template {str(file)!r}: cannot be read ({error}); give tokenizer, plain, or the path of a Jinja file"
        ) from error


def _generation_eos_ids(path: str, revision: str | None) -> tuple[int, ...]:
    """eos_token_id of generation_config.json, which is a number, a list, or missing."""
    folder = model_folder(path)
    value = _local_eos(folder / "generation_config.json") if folder else _hub_eos(path, revision)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(i, int) for i in ids):
        raise ModelError(f"{path}: eos_token_id in generation_config.json is {value!r}; give token ids")
    return tuple(ids)


def _local_eos(file: Path) -> object:
    if not file.exists():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {error}; mend or remove it") from error
    return config.get("eos_token_id") if isinstance(config, dict) else None


def _hub_eos(path: str, revision: str | None) -> object:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(path, revision=revision).eos_token_id
    except OSError:  # a repository without that file
        return None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
