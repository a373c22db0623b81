"""What an endpoint said of one comparison. Plain data."""

from dataclasses import dataclass

Wins = tuple[tuple[float | None, ...], ...]
NOTHING = "the endpoint gave no finite number for any response"


@dataclass(frozen=True)
class Verdict:
    """Scores, or wins, or the reason why there are none."""

    scores: tuple[float | None, ...] | None = None
    wins: Wins | None = None
    reason: str | None = None
    lacking: bool = False
    """The endpoint did not say that it cannot judge this; what it said could not be used, and asking again may help."""

    @classmethod
    def of_scores(cls, scores: tuple[float | None, ...]) -> "Verdict":
        """Failed where all are missing."""
        if all(score is None for score in scores):
            return cls(reason=NOTHING, lacking=True)
        return cls(scores=scores)

    @classmethod
    def of_wins(cls, wins: Wins) -> "Verdict":
        """Failed where none of two different responses is known, though there are two."""
        if len(wins) > 1 and all(p is None for row in wins for p in row):
            return cls(reason=NOTHING, lacking=True)
        return cls(wins=wins)
