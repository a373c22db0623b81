"""What PairRM reads of a prompt: LLM-Blender's formats for an instruction and for a conversation, as plain text.

- One turn of the user: its text is the source, a response is a candidate.
- Several turns: the source asks to fill in the assistant's turns, a candidate fills in all of them, those of the prompt too.
- Messages of the system are what LLM-Blender calls the instruction: they stand before the source, on lines of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from xpo_ray.judges.judgement import Message

INSTRUCTION = "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
"""Word for word what PairRM was trained on."""


@dataclass(frozen=True)
class Exchange:
    """A turn of the user and the assistant's answer."""

    user: str
    assistant: str


@dataclass(frozen=True)
class Conversation:
    """A prompt: what was said before, and the question that the responses answer."""

    system: str
    history: tuple[Exchange, ...]
    question: str

    @classmethod
    def of(cls, prompt: Sequence[Message]) -> Conversation:
        """Turns of one speaker that follow each other are one turn. A prompt ends with the user's turn, else ValueError."""
        if not prompt or prompt[-1]["role"] != "user":
            role = prompt[-1]["role"] if prompt else "nobody"
            raise ValueError(f"PairRM answers the user, the last turn of the prompt is of {role}")
        system = "\n".join(turn["content"] for turn in prompt if turn["role"] == "system")
        spoken = groupby((turn for turn in prompt if turn["role"] != "system"), key=lambda turn: turn["role"])
        turns = [(role, "\n".join(turn["content"] for turn in group)) for role, group in spoken]
        if turns[0][0] == "assistant":
            turns.insert(0, ("user", ""))
        texts = [text for _, text in turns]
        history = tuple(Exchange(user, answer) for user, answer in zip(texts[:-1:2], texts[1::2], strict=True))
        return cls(system, history, texts[-1])

    @property
    def source(self) -> str:
        if not self.history:
            return f"{self.system}\n{self.question}" if self.system else self.question
        users = [*(exchange.user for exchange in self.history), self.question]
        turns = "\n".join(f"USER: {user}\nAssistant: <Response {i}>" for i, user in enumerate(users, 1))
        return f"{self.system}\n{INSTRUCTION}{turns}" if self.system else f"{INSTRUCTION}{turns}"

    def candidate(self, response: str) -> str:
        if not self.history:
            return response
        answers = [*(exchange.assistant for exchange in self.history), response]
        return "\n".join(f"<Response {i}>: {answer}" for i, answer in enumerate(answers, 1))

    def without_oldest(self) -> Conversation:
        """The conversation without its first exchange."""
        return replace(self, history=self.history[1:])
