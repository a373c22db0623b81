"""How answers look on a terminal."""

from datetime import UTC, datetime, timedelta

from xpo_ray.cli.plain_text import plain, uncoloured
from xpo_ray.cli.showing import age, progress_bar, reserved, rounded
from xpo_ray.wire.runs import Progress


def test_amounts_times_and_progress_read_as_people_write_them() -> None:
    assert reserved({"cpus": 1.0, "gpus": 2.0, "memory_gib": 15.2245}) == "1 CPU, 2 GPUs, 15.2 GiB of memory"
    assert reserved({"cpus": 0.5, "gpus": 0.0}) == "0.5 CPUs"
    assert reserved({}) == "nothing"
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert [age(now - timedelta(seconds=s), now) for s in (5, 90, 7200, 200_000)] == ["5 s", "2 min", "2 h", "2 d"]
    assert age(None) == "–"
    assert progress_bar(Progress(steps=12, total_steps=48)) == "██░░░░░░░░ 12/48"
    assert progress_bar(Progress()) == ""


def test_numbers_of_an_event_have_four_digits_and_the_rest_of_it_is_as_it_was() -> None:
    payload = {"seconds": 0.2582489119959064, "counts": {"tokens": 12345, "x": [1e-9]}, "fresh": True, "why": None}
    assert rounded(payload) == {**payload, "seconds": 0.2582, "counts": {"tokens": 12345, "x": [1e-9]}}


def test_colours_leave_a_log_and_other_escapes_are_shown_as_such() -> None:
    assert plain(uncoloured("\x1b[36m(Policy pid=1)\x1b[0m ok \x1b[2J")) == "(Policy pid=1) ok \ufffd[2J"
