"""A prompt as one text, for endpoints that read texts and not messages (format `openrlhf`).

A Jinja file is rendered in jinja2's sandbox as a model's chat template is; it is the user's, the messages are not.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from xpo_ray.errors import JudgeError
from xpo_ray.judges.judgement import Message
from xpo_ray.spec.remote_judge import HttpJudge

PLAIN = "plain"
PromptText = Callable[[Sequence[Message]], str]


class TemplateRefused(ValueError):
    """The template cannot make a text of these messages."""


def prompt_text(spec: HttpJudge) -> PromptText:
    """How the spec wants a prompt. Raises JudgeError for a template that cannot be read; the function, TemplateRefused."""
    return plain if spec.chat_template == PLAIN else _rendered(spec.chat_template, template_text(spec))


def template_text(spec: HttpJudge) -> str:
    """What decides how a prompt looks: the Jinja file's text, nothing for plain. Raises JudgeError."""
    if spec.chat_template == PLAIN:
        return ""
    try:
        return Path(spec.chat_template).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JudgeError(
            f"judge.chat_template {spec.chat_template}: cannot be read: {error}; give `plain` or the path of a Jinja file"
        ) from error


def plain(messages: Sequence[Message]) -> str:
    """The texts of the messages, a blank line behind each."""
    return "".join(f"{message['content']}\n\n" for message in messages)


def _rendered(name: str, text: str) -> PromptText:
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception  # chat templates refuse messages by it
    try:
        template = environment.from_string(text)
    except TemplateError as error:
        raise JudgeError(f"judge.chat_template {name}: is no Jinja template: {error}; mend the file") from error

    def rendered(messages: Sequence[Message]) -> str:
        try:
            return template.render(messages=list(messages), add_generation_prompt=True, bos_token="", eos_token="")
        except (TemplateError, TypeError, ValueError) as error:
            raise TemplateRefused(f"judge.chat_template refuses the messages: {error}") from error

    return rendered
