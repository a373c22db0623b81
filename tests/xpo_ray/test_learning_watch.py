"""What an attempt is warned of, and when it pauses, from its steps' metrics."""

from xpo_ray.learning_watch import LearningWatch
from xpo_ray.reporting import Warned

PAIRED = {"pairs": 4.0, "loss/preference": 0.6, "rewards/margins": 0.1}


def tied(prompts: int = 4, **more: float) -> dict[str, float]:
    return {"pairs": 0.0, "no_pair/one_score": float(prompts), **more}


def codes(warnings: list[Warned]) -> list[str]:
    return [warned.code for warned in warnings]


def test_eight_prompts_in_a_row_without_a_pair_are_told_once_with_their_cause() -> None:
    watch = LearningWatch(20)
    assert watch.step(tied()) == []
    [warned] = watch.step(tied())
    assert warned.code == "no_pairs"
    assert "no pair in 2 windows in a row: the judge gave one and the same score" in warned.message
    assert warned.message.endswith(
        "(8 prompts). Windows without a pair take no optimizer step. The run pauses after 20 of them in a row."
    )
    assert watch.step(tied()) == []


def test_one_large_window_is_enough() -> None:
    assert codes(LearningWatch(20).step(tied(64))) == ["no_pairs"]


def test_a_pair_between_them_begins_the_count_anew() -> None:
    watch = LearningWatch(3)
    for metrics in (tied(), PAIRED, tied(), PAIRED, tied()):
        assert watch.step(metrics) == []
    assert watch.windows == 1


def test_a_short_iteration_is_told_at_its_end() -> None:
    watch = LearningWatch(20)
    watch.step(tied(2))
    assert codes(watch.iteration_over()) == ["no_pairs"]
    assert watch.iteration_over() == []


def test_the_run_pauses_after_so_many_windows_and_says_why() -> None:
    watch = LearningWatch(3)
    for _ in range(2):
        watch.step(tied())
    assert watch.why_pause is None
    watch.step(tied())
    assert watch.why_pause is not None
    assert watch.why_pause.startswith(
        "3 windows in a row had no pair, so nothing is learned: the judge gave one and the same"
    )
    assert "training.max_windows_without_pairs is 3" in watch.why_pause


def test_zero_never_pauses() -> None:
    watch = LearningWatch(0)
    for _ in range(1000):
        watch.step(tied())
    assert watch.why_pause is None


def test_steps_that_are_done_again_count_from_there() -> None:
    watch = LearningWatch(3)
    for _ in range(2):
        watch.step(tied())
    watch.restarted()
    watch.step(tied())
    assert watch.why_pause is None


def test_a_run_without_any_pair_says_at_its_end_what_became_of_the_weights() -> None:
    for bonus_alone, words in (
        (False, "the weights are those that it began with"),
        (True, "the exploration bonus alone"),
    ):
        watch = LearningWatch(20, bonus_alone)
        watch.step(tied())
        [warned] = watch.run_over()
        assert warned.code == "nothing_learned"
        assert words in warned.message
    learned = LearningWatch(20)
    learned.step(PAIRED)
    assert learned.run_over() == LearningWatch(20).run_over() == []


def draws(count: int, empty: float, distinct: int) -> dict[str, float]:
    return PAIRED | {"draws/count": float(count), "draws/empty_rate": empty, "draws/distinct_rate": distinct / count}


def test_first_draws_that_are_all_empty_are_told_even_where_the_datasets_pairs_teach() -> None:
    watch = LearningWatch(20)
    assert watch.step(draws(4, 1.0, 1)) == []
    assert codes(watch.step(draws(4, 1.0, 1))) == ["empty_draws"]
    assert watch.step(draws(8, 1.0, 1)) == []


def test_first_draws_that_are_all_alike_are_told_and_others_are_not() -> None:
    assert codes(LearningWatch(20).step(draws(8, 0.0, 1))) == ["same_draws"]
    assert LearningWatch(20).step(draws(8, 0.5, 2)) == []


def test_a_flat_loss_is_told_once() -> None:
    watch = LearningWatch(20)
    flat = PAIRED | {"loss/preference": 0.6931, "rewards/margins": 0.0}
    found = [warned for _ in range(40) for warned in watch.step(flat)]
    assert codes(found) == ["flat_loss"]
