"""A log that is too long keeps its head and its tail."""

from xpo_ray.api.cluster.logs import GAP, capped


def test_a_short_log_stays_as_it_is() -> None:
    assert capped(b"x" * 100, most=100) == b"x" * 100


def test_a_long_log_keeps_head_and_tail_and_fills_the_cap() -> None:
    kept = capped(b"a" * 500 + b"b" * 500, most=201)
    assert len(kept) == 201
    assert kept.startswith(b"a" * 70)
    assert GAP in kept
    assert kept.endswith(b"b" * 70)
