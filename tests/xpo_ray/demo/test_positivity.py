"""The judge of the demo on a real model: its scores follow from words that it can name."""

from xpo_ray.demo.positivity import score, telling
from xpo_ray.judges.judgement import Message

ASKED = [Message(role="user", content="How was it?")]


def test_cheerful_words_score_above_plain_ones_and_those_above_gloomy_ones() -> None:
    cheerful, plain, gloomy = score(
        ASKED, ["It was a wonderful, happy day!", "It was a day.", "It was a terrible day."]
    )
    assert 1 > cheerful > plain == 0 > gloomy > -1


def test_the_words_that_the_score_follows_from_are_named() -> None:
    words = telling("What a WONDERFUL day, (sadly) not without rain. It was good.")
    assert {word: valence > 0 for word, valence in words.items()} == {"wonderful": True, "sadly": False, "good": True}
    assert telling("It was a day.") == {}
