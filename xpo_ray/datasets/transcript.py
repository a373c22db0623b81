"""Transcripts as in Anthropic's HH data: a whole conversation in one string, "\\n\\nHuman: ... \\n\\nAssistant: ...".

Rows call this to turn a transcript into messages; what is no transcript gives None.
"""

import re

from xpo_ray.judges.judgement import Message

ROLES = {"Human": "user", "Assistant": "assistant"}
TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")


def transcript_messages(text: str) -> tuple[Message, ...] | None:
    """The turns of a transcript, contents stripped; None where the text does not begin with a Human turn."""
    before, *turns = TURN.split(text)
    if before or not turns or turns[0] != "Human":
        return None
    return tuple(
        Message(role=ROLES[speaker], content=content.strip())
        for speaker, content in zip(turns[::2], turns[1::2], strict=True)
    )


def transcript_prompt(text: str) -> tuple[Message, ...] | None:
    """The turns of a transcript that stops where the assistant is to speak ("... \\n\\nAssistant:"), else None."""
    messages = transcript_messages(text)
    if messages is None or len(messages) < 2 or messages[-1] != {"role": "assistant", "content": ""}:
        return None
    return messages[:-1]
