"""A chat template: the Jinja text that makes one text of messages, with the arguments that the run gives it.

Chat renders prompts and dataset answers with it; the judges share its check that a template holds the text it is given. It
never tokenises.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from xpo_ray.errors import ModelError
from xpo_ray.judges.judgement import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OTHER_TEXTS = ("Sphinx of black quartz, judge my vow.", "Pack my box with five dozen jugs.")
GENERATION_TAG = re.compile(r"\{%[-+]?\s*(?:end)?generation\s*[-+]?%\}")


@dataclass(frozen=True)
class ChatTemplate:
    """Renders messages for one tokenizer."""

    tokenizer: "PreTrainedTokenizerBase"
    name: str
    """Of the model, for messages."""
    text: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    parts: bool = False
    """Contents are given as lists of one part of kind text, as templates of multimodal models read them."""

    clock: datetime = field(default_factory=datetime.now)
    """What the clock shows to a template that writes the date, so that all prompts, and answers to them, have the same one."""

    def fitted(self) -> "ChatTemplate":
        """The same, with contents in the form that the template reads."""
        if self._reads_contents():
            return self
        other = replace(self, parts=True)
        return other if other._reads_contents() else self

    def _reads_contents(self) -> bool:
        try:
            return OTHER_TEXTS[0] in self.prompt([Message(role="user", content=OTHER_TEXTS[0])])
        except ModelError:
            return False

    def prompt(self, messages: Sequence[Message]) -> str:
        """The messages and the beginning of the assistant's turn. Raises ModelError."""
        return self._rendered(messages, generation_prompt=True)

    def conversation(self, messages: Sequence[Message]) -> str:
        """The messages alone. Raises ModelError."""
        return self._rendered(messages, generation_prompt=False)

    def _rendered(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                [self._message(m) for m in messages],
                chat_template=self.text,
                tokenize=False,
                add_generation_prompt=generation_prompt,
                strftime_now=self.clock.strftime,
                **self.arguments,
            )
        except Exception as error:  # a template is the user's code
            roles = ", ".join(m["role"] for m in messages)
            raise ModelError(
                f"{self.name}: the chat template failed on turns of {roles}: {type(error).__name__}: {error}; mend the "
                "template or name another in model.chat_template (plain, or the path of a Jinja file)"
            ) from error
        return text

    def _message(self, message: Message) -> dict[str, Any]:
        content = [{"type": "text", "text": message["content"]}] if self.parts else message["content"]
        return {"role": message["role"], "content": content}

    def check_holds(self, messages: Sequence[Message], rendered: str) -> None:
        """Raises ModelError where the prompt lacks the text of a user's turn, or does not depend on the system's."""
        for i, message in enumerate(messages):
            if message["role"] == "assistant":  # templates leave thoughts of earlier turns out
                continue
            if not holds(rendered, message["content"], partial(self._with_content, messages, i)):
                raise ModelError(
                    f"{self.name}: the chat template leaves out the text of turn {i + 1}, of the {message['role']}: "
                    f"{_shown(message['content'])} is not in the prompt {_shown(rendered)}; mend the template (messages have "
                    "the keys role and content) or name another in model.chat_template"
                )

    def _with_content(self, messages: Sequence[Message], i: int, content: str) -> str:
        changed = Message(role=messages[i]["role"], content=content)
        return self.prompt([*messages[:i], changed, *messages[i + 1 :]])

    def unread_arguments(self) -> list[str]:
        """Arguments that the template never reads, which therefore change nothing."""
        from jinja2 import Environment, meta

        environment = Environment(extensions=["jinja2.ext.loopcontrols"])
        read = meta.find_undeclared_variables(environment.parse(GENERATION_TAG.sub("", self.text)))
        return sorted(set(self.arguments) - read)

    def with_defaults(self) -> str:
        """The template's text with the arguments as its defaults, for whoever renders it without them."""
        head = "".join(
            f"{{% if {name} is not defined %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}"
            for name, value in sorted(self.arguments.items())
        )
        return self.text if not head or self.text.startswith(head) else f"{head}\n{self.text}"


def holds(rendered: str, text: str, render: Callable[[str], str]) -> bool:
    """Whether a rendered text holds what it was rendered of: as it stands but for white space and case, or transformed, so
    that other texts in its place (`render`) make different ones."""
    if text.strip() in rendered or _squeezed(text) in _squeezed(rendered):
        return True
    one, other = map(render, OTHER_TEXTS)
    return one != other


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def _literal(value: Any) -> str:
    """JSON data as Jinja writes it."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key, ensure_ascii=False)}: {_literal(v)}' for key, v in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 160 else f"{text[:80]!r} ... {text[-80:]!r}"
