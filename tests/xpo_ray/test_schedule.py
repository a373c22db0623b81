"""The walk of a run over its prompts, against slow implementations on plain lists."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from xpo_ray.schedule import Schedule, Window


def schedule(**changes: Any) -> Schedule:
    """29 prompts in 3 partitions of 10, 10 and 9; shards of 4, windows of 3: they meet at row 12 of a partition only."""
    usual: dict[str, Any] = {
        "prompts": 29,
        "seed": 5,
        "partitions": 3,
        "shard_size": 4,
        "batch_size": 3,
        "epochs": 1,
        "data": ("fresh", "fresh", "fresh"),
    }
    return Schedule(**usual | changes)


def prompts_of(plan: Schedule, window: Window) -> list[int]:
    """Indices into the prompt table of what a window trains on."""
    return [int(plan.shard_prompts(s.iteration, s.shard)[row]) for s in window.slices for row in s.rows]


def partition(plan: Schedule, t: int) -> list[int]:
    """A partition in order, shard by shard."""
    return [int(p) for k in range(plan.shards(t)) for p in plan.shard_prompts(t, k)]


@pytest.mark.parametrize(("prompts", "partitions"), [(29, 3), (30, 3), (31, 3), (7, 7), (100, 9)])
def test_partitions_differ_by_one_prompt_at_most_and_hold_each_once(prompts: int, partitions: int) -> None:
    plan = schedule(prompts=prompts, partitions=partitions, data=("fresh",) * partitions)
    sizes = [plan.size(t) for t in range(1, partitions + 1)]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)
    assert sorted(p for t in range(1, partitions + 1) for p in partition(plan, t)) == list(range(prompts))


def test_shards_are_full_but_for_the_last_of_a_partition() -> None:
    plan = schedule()
    assert [[len(plan.shard_prompts(t, k)) for k in range(plan.shards(t))] for t in (1, 2, 3)] == [
        [4, 4, 2],
        [4, 4, 2],
        [4, 4, 1],
    ]


def test_the_first_epoch_walks_the_partition_in_its_order() -> None:
    plan = schedule()
    for t in (1, 2, 3):
        assert [p for w in plan.windows(t) for p in prompts_of(plan, w)] == partition(plan, t)


def test_windows_need_not_align_with_shards() -> None:
    second = list(schedule().windows(1))[1]
    assert [(s.shard, s.rows) for s in second.slices] == [(0, (3,)), (1, (0, 1))]
    assert second.prompts == 3


def test_windows_larger_than_shards_span_several() -> None:
    (window,) = schedule(batch_size=10).windows(1)
    assert [(s.shard, s.rows) for s in window.slices] == [(0, (0, 1, 2, 3)), (1, (0, 1, 2, 3)), (2, (0, 1))]


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 50])
def test_steps_are_epochs_times_the_windows_of_one(epochs: int, batch_size: int) -> None:
    plan = schedule(epochs=epochs, batch_size=batch_size)
    for t, size in ((1, 10), (3, 9)):
        windows = list(plan.windows(t))
        assert len(windows) == plan.steps(t) == epochs * -(-size // batch_size)
        assert [w.step for w in windows] == list(range(1, len(windows) + 1))


@pytest.mark.parametrize("data", ["fresh", "accumulate"])
def test_every_prompt_is_trained_on_once_in_every_epoch(data: str) -> None:
    plan = schedule(epochs=3, data=(data,) * 3)
    for t in (1, 2, 3):
        trained = [p for s in range(1 if data == "accumulate" else t, t + 1) for p in partition(plan, s)]
        assert plan.trained_prompts(t) == len(trained)
        for epoch in (1, 2, 3):
            seen = Counter(p for w in plan.windows(t) if w.epoch == epoch for p in prompts_of(plan, w))
            assert seen == Counter(trained)


def test_all_windows_of_an_epoch_but_the_last_are_full() -> None:
    plan = schedule(epochs=2, data=("accumulate",) * 3)
    sizes = [w.prompts for w in plan.windows(3)]
    assert sizes == [3] * 9 + [2] + [3] * 9 + [2]


def test_later_epochs_shuffle_shards_and_the_rows_within_them() -> None:
    plan = schedule(epochs=3, batch_size=1)
    epochs = [[prompts_of(plan, w)[0] for w in plan.windows(1) if w.epoch == e] for e in (1, 2, 3)]
    assert len({tuple(e) for e in epochs}) == 3
    for order in epochs[1:]:
        shards = [next(k for k in range(3) if p in plan.shard_prompts(1, k)) for p in order]
        assert len(set(shards)) == 3 == sum(a != b for a, b in zip([-1, *shards], shards, strict=False))


def test_accumulate_mixes_every_old_pair_in_once_and_leaves_the_fresh_ones_in_order() -> None:
    plan = schedule(batch_size=1, data=("accumulate",) * 3)
    slices = [w.slices[0] for w in plan.windows(3)]
    fresh = [(s.shard, s.rows[0]) for s in slices if s.iteration == 3]
    assert fresh == [(k, r) for k in range(3) for r in range(4)][:9]
    old = [(s.iteration, s.shard, s.rows[0]) for s in slices if s.iteration < 3]
    assert sorted(old) == [(t, k, r) for t in (1, 2) for k in range(3) for r in range(4) if 4 * k + r < 10]
    places = [i for i, s in enumerate(slices) if s.iteration < 3]
    assert places != list(range(20))
    assert places != list(range(9, 29))


def test_accumulate_after_a_fresh_iteration_reads_that_one_too() -> None:
    plan = schedule(data=("fresh", "accumulate", "accumulate"))
    assert [plan.trained_prompts(t) for t in (1, 2, 3)] == [10, 20, 29]


@pytest.mark.parametrize("data", ["fresh", "accumulate"])
def test_a_resumed_walk_has_the_same_windows(data: str) -> None:
    walked = schedule(epochs=2, data=(data,) * 3)
    for after in range(walked.steps(2) + 1):
        assert list(schedule(epochs=2, data=(data,) * 3).windows(2, after)) == list(walked.windows(2))[after:]


def test_the_order_does_not_depend_on_when_partitions_are_asked_for() -> None:
    late_first, early_first = schedule(epochs=2, data=("accumulate",) * 3), schedule(epochs=2, data=("accumulate",) * 3)
    late = {t: list(late_first.windows(t)) for t in (3, 1, 2)}
    early = {t: list(early_first.windows(t)) for t in (1, 2, 3)}
    assert late == early


def test_the_seed_decides_the_order_and_the_batch_size_does_not() -> None:
    assert partition(schedule(), 1) != partition(schedule(seed=6), 1)
    assert partition(schedule(), 1) == partition(schedule(batch_size=7, shard_size=3), 1)


def test_total_steps_add_up_over_any_part_of_the_run() -> None:
    plan = schedule(epochs=2)
    assert [plan.steps(t) for t in (1, 2, 3)] == [8, 8, 6]
    assert plan.total_steps() == 22
    assert (plan.total_steps(2), plan.total_steps(1, 2), plan.total_steps(2, 2)) == (14, 16, 8)
    assert plan.total_steps(1, 0) == 0


def test_a_fully_online_run_is_one_window_for_each_partition() -> None:
    plan = replace(schedule(), partitions=10, data=("fresh",) * 10)
    assert [plan.size(t) for t in range(1, 11)] == [3] * 9 + [2]
    assert [plan.steps(t) for t in range(1, 11)] == [1] * 10


def test_consecutive_portions_are_stretches_of_the_rows_and_each_is_permuted() -> None:
    plan = schedule(portions="consecutive")
    stretches = [partition(plan, t) for t in (1, 2, 3)]
    assert [sorted(s) for s in stretches] == [list(range(10)), list(range(10, 20)), list(range(20, 29))]
    assert all(s != sorted(s) for s in stretches)
    assert [p - 10 for p in stretches[1]] != stretches[0]
    assert [partition(schedule(portions="consecutive"), t) for t in (1, 2, 3)] == stretches
    assert partition(schedule(portions="consecutive", seed=6), 1) != stretches[0]


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_last_batch_that_is_dropped_is_no_step(epochs: int) -> None:
    """10 and 9 prompts by 4: two batches, and 2 or 1 prompts are left over in each epoch; by 3, 9 prompts are three batches."""
    plan = schedule(batch_size=4, epochs=epochs, last_batch="drop")
    assert [[w.prompts for w in plan.windows(t)] for t in (1, 3)] == [[4, 4] * epochs] * 2
    assert [plan.steps(t) for t in (1, 3)] == [2 * epochs] * 2
    assert plan.total_steps() == 6 * epochs
    assert [w.slices for w in plan.windows(1)][:2] == [w.slices for w in schedule(batch_size=4).windows(1)][:2]
    assert schedule(last_batch="drop", epochs=epochs).steps(3) == schedule(epochs=epochs).steps(3) == 3 * epochs
