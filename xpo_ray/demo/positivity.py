"""The judge of the demo on a real model: how cheerful the words of an answer are, by VADER's published word list.

A Python judge, named in specs as `xpo_ray.demo.positivity:score`. Its score follows from words that a reader sees: `telling`
gives them. It knows nothing of whether an answer is right or helpful.
"""

from functools import cache
from typing import TYPE_CHECKING

from xpo_ray.errors import JudgeError
from xpo_ray.judges.judgement import Message

if TYPE_CHECKING:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer


def score(prompt: list[Message], responses: list[str]) -> list[float]:  # noqa: ARG001 - the question does not matter
    """Positivity of each response from −1 (all gloom) over 0 (neutral) to 1, as VADER's `compound`."""
    return [float(_analyser().polarity_scores(response)["compound"]) for response in responses]


def telling(response: str) -> dict[str, float]:
    """The words of a response that VADER's list holds, in lower case, with their valence from −4 to 4."""
    valences: dict[str, float] = _analyser().lexicon
    words = (word.strip(".,;:!?\"'()*") for word in response.lower().split())
    return {word: valences[word] for word in words if word in valences}


@cache
def _analyser() -> "SentimentIntensityAnalyzer":
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise JudgeError('the demo\'s judge needs vaderSentiment; install it: pip install "xpo-ray[demo]"') from error
    return SentimentIntensityAnalyzer()
