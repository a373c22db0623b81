"""What a judge outside returned: every form it may have, and reasons where it has none of them."""

import math
from typing import Any

import pytest

from xpo_ray.judges.judgement import Judgement
from xpo_ray.judges.returned import judgement_of


@pytest.mark.parametrize(
    ("returned", "scores"),
    [
        ([1, 2.5], (1.0, 2.5)),
        ((True, 0), (1.0, 0.0)),
        ({"scores": [1.0, None]}, (1.0, None)),
        ([math.nan, 3], (None, 3.0)),
        ([-math.inf, 3], (None, 3.0)),
    ],
)
def test_scores_alone_or_by_name(returned: Any, scores: tuple[float | None, ...]) -> None:
    assert judgement_of("j", returned, 2) == Judgement("j", scores=scores)


def test_win_probabilities_with_missing_entries_and_a_diagonal_that_is_not_read() -> None:
    returned = {"wins": [[7, 0.75, None], [0.25, None, 1], [math.nan, 0, "x"]]}
    expected = ((0.5, 0.75, None), (0.25, 0.5, 1.0), (None, 0.0, 0.5))
    assert judgement_of("j", returned, 3) == Judgement("j", wins=expected)


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "returned NoneType None; expected a list of 2 scores"),
        ("ab", "returned str 'ab'; expected a list of 2 scores"),
        (3.0, "returned float 3.0; expected a list of 2 scores"),
        ([1.0], "returned 1 items"),
        ([1.0, 2.0, 3.0], "returned 3 items"),
        ([1.0, "2"], "returned str '2' for a score"),
        ([None, math.nan], "every score is NaN or infinite"),
        ([[1.0], [2.0]], "for a score"),
        ({}, "a dict with the keys []; expected one of scores, wins, failed"),
        ({"scores": [1, 2], "wins": []}, "expected one of scores, wins, failed"),
        ({"score": [1, 2]}, "a dict with the keys ['score']"),
        ({"wins": [[0.5, 0.5]]}, "returned 1 items"),
        ({"wins": [[0.5, 0.5], [0.5]]}, "returned 1 items"),
        ({"wins": [[0.5, 1.5], [0.5, 0.5]]}, "1.5 for a win probability; expected a number from 0 to 1"),
        ({"wins": [[0.5, -0.1], [0.5, 0.5]]}, "-0.1 for a win probability"),
        ({"wins": [[0.5, math.inf], [0.5, 0.5]]}, "inf for a win probability"),
        ({"wins": [[0.5, "1"], [0.5, 0.5]]}, "'1' for a win probability"),
        ({"wins": [[0.5, None], [None, 0.5]]}, "every win probability is missing"),
        ({"failed": "too long"}, "the judge said: too long"),
    ],
)
def test_what_does_not_fit_has_failed_with_the_reason(returned: Any, reason: str) -> None:
    said = judgement_of("j", returned, 2)
    assert said.failed
    assert reason in (said.reason or "")


def test_a_response_alone_has_a_win_matrix_of_one() -> None:
    assert judgement_of("j", {"wins": [[None]]}, 1) == Judgement("j", wins=((0.5,),))
