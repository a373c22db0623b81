"""Gradients made side by side are those made one after another, whatever the number of lanes and whoever is faster."""

import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from xpo_ray.lanes import MOST_WEIGHTS, Lanes

CPU = torch.device("cpu")


def lanes(most: int) -> Lanes:
    return Lanes(CPU, most)


def problem() -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(0)
    weights = [torch.randn(6, 4, requires_grad=True), torch.randn(4, requires_grad=True), torch.randn(3)]
    weights[2].requires_grad_()  # in no loss
    return weights, torch.randn(9, 6)


def test_gradients_are_those_of_one_lane() -> None:
    found = []
    for most in (1, 2, 3):
        weights, x = problem()

        def work(
            share: list[int], weights: list[Tensor] = weights, x: Tensor = x
        ) -> Iterator[tuple[Tensor, list[int]]]:
            for i in share:
                yield (x[i] @ weights[0] + weights[1]).square().sum() / len(x), [i]

        each = lanes(most)
        shares = each.shares([1] * len(x))
        assert len(shares) == most
        told = each.backward(weights, shares, work)
        assert sorted(i for t in told for i in t) == list(range(9))
        assert weights[2].grad is None
        found.append([w.grad for w in weights[:2]])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a is not None
            assert b is not None
            torch.testing.assert_close(a, b, atol=1e-6, rtol=0.0)


def test_the_sum_does_not_depend_on_who_is_faster() -> None:
    digests = set()
    for slow in (0, 1):
        weights, x = problem()

        def work(
            share: list[int], weights: list[Tensor] = weights, x: Tensor = x, slow: int = slow
        ) -> Iterator[tuple[Tensor, int]]:
            for i in share:
                if share[0] == slow:
                    time.sleep(0.01)
                yield (x[i] @ weights[0]).exp().sum(), i

        each = lanes(2)
        told = each.backward(weights[:1], each.shares([1] * len(x)), work)
        assert weights[0].grad is not None
        digests.add((weights[0].grad.numpy().tobytes(), tuple(told)))
    assert len(digests) == 1


def test_gradients_add_to_what_is_there() -> None:
    weights, x = problem()
    weights[1].grad = torch.ones(4)
    each = lanes(2)
    each.backward([weights[1]], [[0], [1]], lambda share: iter([((weights[1] * x[share[0], :4]).sum(), None)]))
    torch.testing.assert_close(weights[1].grad, 1.0 + x[0, :4] + x[1, :4])


def test_work_is_dealt_out_by_size() -> None:
    shares = lanes(2).shares([8, 1, 7, 2, 6, 3])
    assert [sorted(s) for s in shares] == [[0, 1, 3, 5], [2, 4]]  # 8 + 3 + 2 + 1 and 7 + 6
    assert lanes(2).shares([5, 4, 3]) == [[0, 1, 2]]
    assert lanes(4).shares([]) == [[]]


def test_a_long_answer_leaves_the_others_to_the_other_lane() -> None:
    assert lanes(2).shares([100, 1100, 90, 120]) == [[1], [3, 0, 2]]


def test_a_model_of_many_weights_has_one_lane() -> None:
    assert Lanes(CPU, 4, weights=MOST_WEIGHTS).most == 4
    assert Lanes(CPU, 4, weights=MOST_WEIGHTS + 1).most == 1


def test_what_a_lane_raises_is_raised() -> None:
    def work(share: list[int]) -> Iterator[tuple[Tensor, None]]:
        if 1 in share:
            raise ValueError("lane")
        yield torch.ones((), requires_grad=True), None

    with pytest.raises(ValueError, match="lane"):
        lanes(2).backward([torch.ones(1, requires_grad=True)], [[0], [1]], work)


def test_a_device_other_than_the_cpu_has_one_lane() -> None:
    assert Lanes(torch.device("meta"), 4).most == 1
