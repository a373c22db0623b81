"""How examples are shared out: every one once, balanced by tokens, and the same number of micro-batches for each rank."""

import pytest

from xpo_ray.group.shares import passes, shared_out
from xpo_ray.logprobs import PromptGroup, plain, shared


def group(prompt: int, *responses: int) -> PromptGroup:
    """A prompt and responses of so many tokens, all different."""
    return PromptGroup([1] * prompt, tuple([10 * k + 1] * n for k, n in enumerate(responses)))


def test_the_largest_goes_to_the_rank_that_has_least() -> None:
    assert shared_out([5, 9, 4, 3, 3], 2) == [[1, 3], [0, 2, 4]]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_every_example_is_in_one_micro_batch_and_all_ranks_have_equally_many(ranks: int) -> None:
    groups = [group(3 + k % 5, 2 + k % 3, 4) for k in range(11)]
    for path in (plain, shared):
        made = passes(groups, ranks, 24, path)
        assert len(made) == ranks
        assert len({len(batches) for batches in made}) == 1
        assert sorted(i for batches in made for batch in batches for i in batch) == list(range(11))


def test_a_rank_without_examples_has_empty_micro_batches() -> None:
    assert passes([group(3, 2), group(40, 30)], 3, 10, shared) == [[[1]], [[0]], [[]]]
    assert passes([], 2, 10, shared) == [[], []]


def test_loads_differ_by_less_than_the_largest_example() -> None:
    sizes = [(7 * k) % 23 + 1 for k in range(40)]
    loads = [sum(sizes[i] for i in share) for share in shared_out(sizes, 4)]
    assert max(loads) - min(loads) <= max(sizes)
