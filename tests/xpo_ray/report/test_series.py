"""Thinning, histograms, sorted curves and spans, by hand."""

import numpy as np

from xpo_ray.report.series import bin_edges, merged, shares, sorted_curve, spread, thinned, total


def test_a_short_line_is_left_as_it_is() -> None:
    x, y = thinned(np.arange(5.0), np.arange(5.0))
    assert x.tolist() == y.tolist() == [0, 1, 2, 3, 4]


def test_a_thinned_line_keeps_its_ends_and_every_spike_within_the_limit() -> None:
    x, y = np.arange(100_000.0), np.zeros(100_000)
    y[41_234], y[77_777], y[5:50] = 9.0, -4.0, np.nan
    thin_x, thin_y = thinned(x, y)
    assert len(thin_x) <= 2000
    assert (thin_x[0], thin_x[-1]) == (0.0, 99_999.0)
    assert thin_y[thin_x == 41_234] == 9.0
    assert thin_y[thin_x == 77_777] == -4.0


def test_items_are_spread_evenly_with_the_first_and_the_last() -> None:
    assert spread(list(range(101)), 5) == [0, 25, 50, 75, 100]
    assert spread([3, 4], 5) == [3, 4]
    assert spread(list(range(9)), 1) == [0]


def test_shares_add_up_to_a_hundred_and_what_lies_outside_is_in_the_outer_bins() -> None:
    found = shares(np.array([-99.0, 0.1, 0.6, 0.7, 99.0, np.nan]), np.array([0.0, 0.5, 1.0]))
    assert found.tolist() == [40.0, 60.0]


def test_edges_cover_all_samples_and_are_not_empty_for_equal_values() -> None:
    edges = bin_edges([np.array([0.0, 1.0]), np.array([4.0, np.nan])], bins=4)
    assert len(edges) == 5
    assert edges[0] < 0.1
    assert edges[-1] > 3.9
    assert bin_edges([np.array([2.0, 2.0])], bins=2).tolist() == [1.5, 2.0, 2.5]


def test_a_sorted_curve_runs_over_the_share_of_prompts() -> None:
    x, y = sorted_curve(np.array([3.0, np.nan, 1.0, 2.0, 0.0]))
    assert x.tolist() == [12.5, 37.5, 62.5, 87.5]
    assert y.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_long_sorted_curve_becomes_quantiles_with_both_extremes() -> None:
    x, y = sorted_curve(np.arange(10_001.0)[::-1], limit=101)
    assert len(x) == 101
    assert np.allclose(y, 100.0 * np.arange(101))


def test_spans_are_united_and_small_gaps_closed() -> None:
    spans = [(5.0, 6.0), (0.0, 2.0), (1.0, 3.0)]
    assert merged(spans) == [(0.0, 3.0), (5.0, 6.0)]
    assert merged(spans, gap=2.0) == [(0.0, 6.0)]
    assert total(spans) == 4.0
