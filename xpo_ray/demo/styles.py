"""The styles of answer in the demo, and how common each is in the corpus that the base model learns from.

The world writes answers with `Style.write`, measurements read them back with `style_of`. The judge knows no styles.
"""

import random
import re
from dataclasses import asdict, dataclass

from xpo_ray.demo.topics import Topic

OTHER = "other"
"""What `style_of` calls a text that fits no template of any style."""
BEST = "mentor"
"""The style that the judge likes best; it is rare in the corpus and in no preference pair."""

Part = tuple[str, ...]
"""One sentence in several wordings; {task}, {thing}, {step} and {example} are filled in from the topic."""


@dataclass(frozen=True)
class Style:
    """One way of answering: parts joined by blanks."""

    name: str
    share: float
    """Of the corpus."""
    parts: tuple[Part, ...]
    in_pairs: float = 0.1
    """How often the preference pairs hold the style, as a weight: helpful ones mostly, the base's bad habits seldom."""

    def write(self, topic: Topic, rng: random.Random) -> str:
        text = " ".join(rng.choice(wordings) for wordings in self.parts)
        return text.format(**asdict(topic))

    def pattern(self) -> re.Pattern[str]:
        """Matches every text that the style can write, and those that differ in the slots alone."""
        return re.compile(" ".join(f"(?:{'|'.join(map(_loose, wordings))})" for wordings in self.parts))


WELCOME: Part = ("Good question!", "What a nice plan!", "I am happy to help!")
STEP: Part = ("To {task}, {step}.", "If you want to {task}, {step}.")
EXAMPLE: Part = ("For example, {example}.",)
INVITATION: Part = ("Try it today and tell me how it went.", "Start small and tell me how it goes.")
COLD_END: Part = ("That is all.", "The rest is easy.", "Most people know that.")

STYLES: tuple[Style, ...] = (
    Style("curt", 0.08, (("Just {step}.", "Simply {step}.", "You only have to {step}."),)),
    Style("plain", 0.11, (STEP, COLD_END), in_pairs=1.0),
    Style("polite", 0.09, (WELCOME, STEP, COLD_END), in_pairs=1.0),
    Style("textbook", 0.065, (STEP, EXAMPLE, COLD_END), in_pairs=1.0),
    Style("coaching", 0.07, (STEP, INVITATION), in_pairs=1.0),
    Style("teaching", 0.045, (WELCOME, STEP, EXAMPLE, COLD_END), in_pairs=1.0),
    Style("hosting", 0.045, (WELCOME, STEP, INVITATION), in_pairs=1.0),
    Style("guiding", 0.035, (STEP, EXAMPLE, INVITATION), in_pairs=1.0),
    Style(BEST, 0.015, (WELCOME, STEP, EXAMPLE, INVITATION), in_pairs=0.0),
    Style(
        "cheering",
        0.08,
        (
            ("What a lovely idea!", "How nice of you to ask!", "Oh, that sounds wonderful!"),
            ("Everybody likes {thing}.", "I am always happy to hear about {thing}."),
            ("I am sure it will work out.", "Have fun!", "You can do it!"),
        ),
    ),
    Style(
        "evasive",
        0.11,
        (
            ("It depends.", "That is hard to say.", "Who knows?"),
            ("There are many ways to {task}.", "People who {task} all do it differently."),
            ("I would rather not choose one.", "Perhaps somebody else can tell you."),
        ),
    ),
    Style(
        "rambling",
        0.1,
        (
            ("Well, {thing}.", "Ah, {thing}, let me think."),
            ("My uncle used to talk about that.", "I met a man on a train who knew that."),
            ("He said {example},", "It was something like {example},"),
            ("or was it the other way round, and then it rained.", "but I forget, it was years ago."),
        ),
    ),
    Style(
        "scolding",
        0.075,
        (
            ("You should know how to {task} by now.", "Not again.", "Everyone can {task}, except you."),
            ("Go and read a book about {thing}.", "Stop asking me about {thing}."),
        ),
    ),
    Style(
        "selling",
        0.08,
        (
            ("Buy our magic kit for {thing} today!", "Our course on {thing} is half price!"),
            ("Nobody can {task} without it.", "It is the only way to {task}."),
            ("Order now!", "Call us now!"),
        ),
    ),
)


def style_of(response: str) -> str:
    """The name of the style whose templates a response fits, or OTHER."""
    return next((name for name, pattern in _PATTERNS if pattern.fullmatch(response.strip())), OTHER)


def _loose(template: str) -> str:
    return re.sub(r"\\\{\w+\\\}", "[^.!?]+", re.escape(template))


_PATTERNS = tuple((style.name, style.pattern()) for style in STYLES)
