"""Seeds and orders that are the same on every machine: numbers pinned, properties checked."""

import itertools

import numpy as np

from xpo_ray.seeds import seed_of, seeded_order


def test_a_seed_is_the_same_on_every_machine_and_in_every_version() -> None:
    assert seed_of(0, "policy", 1, 5, 0) == 7606933902469846410
    assert seed_of(7, "evaluation", 0, "a") == 5567145338908593956


def test_every_part_of_what_a_seed_is_for_changes_it() -> None:
    parts = itertools.product((0, 1), ("policy", "reference", "evaluation"), (1, 2, 11), range(20), range(3))
    seeds = [seed_of(run, purpose, *rest) for run, purpose, *rest in parts]
    assert len(set(seeds)) == len(seeds) == 2 * 3 * 3 * 20 * 3


def test_parts_that_read_alike_when_joined_have_other_seeds() -> None:
    assert len({seed_of(1, "policy", 1, 23), seed_of(1, "policy", 12, 3), seed_of(11, "policy", 2, 3)}) == 3


def test_seeds_fit_63_bits_and_use_the_highest() -> None:
    seeds = [seed_of(0, "policy", i) for i in range(64)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) >= 2**62


def test_an_order_is_the_same_on_every_machine() -> None:
    assert seeded_order(range(10), 3, "partition").tolist() == [4, 5, 7, 6, 1, 0, 3, 8, 2, 9]


def test_an_order_holds_each_item_once() -> None:
    assert sorted(seeded_order(range(500), 0, "partition").tolist()) == list(range(500))
    assert seeded_order([], 0, "partition").tolist() == []


def test_an_order_depends_on_the_items_alone_not_on_how_they_came() -> None:
    forward = seeded_order(range(50), 1, "epoch", 2)
    assert np.array_equal(forward, seeded_order(reversed(range(50)), 1, "epoch", 2))
    without = [v for v in forward.tolist() if v != 17]
    assert seeded_order([v for v in range(50) if v != 17], 1, "epoch", 2).tolist() == without


def test_seed_purpose_and_parts_change_an_order() -> None:
    orders = [(0, "epoch", (1,)), (1, "epoch", (1,)), (0, "partition", (1,)), (0, "epoch", (2,)), (0, "epoch", (1, 0))]
    made = {tuple(seeded_order(range(30), seed, purpose, *parts).tolist()) for seed, purpose, parts in orders}
    assert len(made) == len(orders)
