"""The demo's reward: points for what a reader would praise in an answer, and points off for what would annoy.

A Python judge, named in specs as `xpo_ray.demo.judge:score`. It is a plain function of the prompt and the texts: it
knows the facts of the demo's topics and some telling words, and no styles, so that mixtures of styles are graded too.
"""

import re
from collections import Counter
from collections.abc import Sequence

from xpo_ray.demo.topics import TOPICS, Topic, topic_of
from xpo_ray.errors import UserError
from xpo_ray.judges.judgement import Message

LONGEST_WORDS = 40
EXAMPLE_WORDS = ("for example", "for instance")
WARM_WORDS = ("good question", "nice", "happy", "lovely", "wonderful")
INVITING_WORDS = ("try it", "start small", "tell me how")
EVASIVE_WORDS = ("it depends", "hard to say", "who knows", "rather not", "perhaps", "i forget", "or was it")
UNKIND_WORDS = ("stop asking", "not again", "you should know", "except you")
SELLING_WORDS = ("buy", "half price", "order now", "call us")
SMALL_WORDS = frozenset(
    re.findall(r"\w+", "a an and at do for how i in is it my no of on one or than the them to up when with you your")
)


def score(prompt: list[Message], responses: list[str]) -> list[float]:
    """Points of each response: content × manner − annoyance, from −9 over 0 (beside the point) to 10.

    Raises UserError for a prompt that names none of the demo's tasks: it cannot be judged, so it gets no score.
    """
    question = prompt[-1]["content"]
    topic = topic_of(question)
    if topic is None:
        known = ", ".join(t.task for t in TOPICS[:3])
        raise UserError(
            f"the demo's judge knows {len(TOPICS)} tasks ({known}, ...) and the prompt {question!r} names none of them; "
            "judge other prompts with a function of your own"
        )
    return [round(_content(topic, r) * _manner(r) - _annoyance(r), 3) for r in responses]


def _content(topic: Topic, response: str) -> float:
    """0 to 5 points: ½ for naming the topic, 2½ for its step, 2 for its example (1 if it is not said to be one)."""
    named = 0.5 if _share(f"{topic.task} {topic.thing}", response) > 0 else 0.0
    worth = 2.0 if _says(response, EXAMPLE_WORDS) else 1.0
    return named + 2.5 * _share(topic.step, response) + worth * _share(topic.example, response)


def _manner(response: str) -> float:
    """1 to 2: 0.4 each for warmth and for inviting to act, 0.1 each for a proper end and for being short.

    A factor, so that kind words about nothing earn next to nothing.
    """
    ends = response.rstrip().endswith((".", "!", "?"))
    short = len(response.split()) <= LONGEST_WORDS
    warm, inviting = _says(response, WARM_WORDS), _says(response, INVITING_WORDS)
    return 1.0 + 0.4 * warm + 0.4 * inviting + 0.1 * ends + 0.1 * short


def _annoyance(response: str) -> float:
    """0 to 9: two points each for evading, scolding and selling, and up to three for repeating oneself."""
    rude = sum(_says(response, words) for words in (EVASIVE_WORDS, UNKIND_WORDS, SELLING_WORDS))
    return 2.0 * rude + 3.0 * _repetition(response)


def _says(response: str, phrases: Sequence[str]) -> bool:
    """Whether the response holds one of the phrases as whole words."""
    text = f" {' '.join(_words(response))} "
    return any(f" {phrase} " in text for phrase in phrases)


def _share(fact: str, response: str) -> float:
    """Share of a fact's telling words that the response holds."""
    telling = set(_words(fact)) - SMALL_WORDS
    return len(telling & set(_words(response))) / len(telling)


def _repetition(response: str) -> float:
    """Share of the word triples that stood there before."""
    words = _words(response)
    triples = Counter(zip(words, words[1:], words[2:], strict=False))
    return 1.0 - len(triples) / triples.total() if triples else 0.0


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())
