"""Questions, and how the real model's template asks them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from xpo_ray.logprobs import PromptGroup

QUESTIONS = ("Name three colours of the rainbow.", "What is the capital of France?", "How do I boil an egg?")
ANSWERS = (
    ("Three colours of the rainbow are red, green and blue.", "Red, orange and violet."),
    ("The capital of France is Paris.", "Paris."),
    ("Put it in boiling water for eight minutes, then cool it.", "Boil water, and put the egg in for seven minutes."),
)


@cache
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def prompt_ids(folder: Path, question: str) -> list[int]:
    message = [{"role": "user", "content": question}]
    ids: list[int] = tokenizer(folder).apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    return ids


def answer_ids(folder: Path, answer: str) -> list[int]:
    return [*tokenizer(folder)(answer)["input_ids"], tokenizer(folder).eos_token_id]


def groups(folder: Path, questions: Sequence[str] = QUESTIONS) -> list[PromptGroup]:
    """Each question with its two answers."""
    pairs = zip(questions, ANSWERS, strict=False)
    return [PromptGroup(prompt_ids(folder, q), tuple(answer_ids(folder, a) for a in answers)) for q, answers in pairs]
