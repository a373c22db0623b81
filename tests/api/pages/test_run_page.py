"""One run in a real Chromium: charts and log that grow, commands, samples, spec, checkpoints, attempts, hostile texts."""

import pytest

from tests.api.conftest import Headers
from tests.api.pages.conftest import Visits
from tests.api.pages.rows import HOSTILE, bring, measured_run, new_run, step_done, tell
from tests.api.pages.serving import Served
from tests.xpo_ray.report.folders import small_run
from xpo_ray.api.database.tables import Attempt, Run, Step
from xpo_ray.api.services import Services

pytestmark = pytest.mark.browser
DRAWN = ".figure:not([hidden]) figcaption b"


def test_charts_grow_with_the_events_of_the_run(visit: Visits, services: Services) -> None:
    measured_run(services, "run_a")
    window = visit("/runs/run_a")
    window.sees("step 12", ".legend")
    titles = window.find(DRAWN).all_inner_texts()
    assert {"Held-out reward", "Win rate", "Loss", "Accuracy", "Throughput by stage"} <= set(titles)
    assert "Exploration bonus" not in titles
    window.sees("0.58", ".legend")
    step_done(services, "run_a", 13, 0.25)
    window.sees("0.25", ".legend")
    window.sees("step 13", ".legend")
    assert window.complaints == []


def test_a_chart_is_read_with_the_arrow_keys(visit: Visits, services: Services) -> None:
    measured_run(services, "run_a")
    window = visit("/runs/run_a")
    window.sees("0.58", ".legend")
    chart = window.page.locator(".figure", has_text="And its parts").locator(".chart")
    chart.focus()
    window.page.keyboard.press("Home")
    assert "loss 0.69 at step 1" in str(chart.get_attribute("aria-label"))
    window.page.keyboard.press("ArrowRight")
    assert "loss 0.68 at step 2" in str(chart.get_attribute("aria-label"))
    window.page.keyboard.press("End")
    assert "loss 0.58 at step 12" in str(chart.get_attribute("aria-label"))


def test_the_log_goes_on_without_gap_or_double_over_a_restart_of_the_service(
    visit: Visits, services: Services, served: Served
) -> None:
    new_run(services, "run_a")
    window = visit("/runs/run_a#events")
    window.sees("run queued", ".events li")
    served.stop()
    window.page.wait_for_selector("#banner:not([hidden])")
    for n in range(5):
        tell(services, "run_a", "warned", {"code": f"while_away_{n}", "message": "told"}, "warning")
    served.start()
    window.sees("while_away_4", ".events li")
    tell(services, "run_a", "warned", {"code": "and_after", "message": "told"}, "warning")
    window.sees("and_after", ".events li")
    told = window.find(".events li .what").all_inner_texts()
    assert [t.partition(":")[0] for t in told[:6]] == ["and_after", *(f"while_away_{n}" for n in (4, 3, 2, 1, 0))]
    window.page.wait_for_selector("#banner", state="hidden")


def test_the_log_begins_with_the_newest_events_and_pages_back_to_the_first(visit: Visits, services: Services) -> None:
    new_run(services, "run_a")
    for n in range(2, 461):
        tell(services, "run_a", "warned", {"code": f"n{n}", "message": "told"}, "warning")
    window = visit("/runs/run_a#events")
    window.sees("n460", ".events li")
    while window.page.get_by_role("button", name="Show older events").is_visible():
        before = window.find(".events li").count()
        window.page.get_by_role("button", name="Show older events").click()
        window.page.wait_for_function("(n) => document.querySelectorAll('.events li').length > n", arg=before)
    told = [t.partition(":")[0] for t in window.find(".events li .what").all_inner_texts()]
    assert told[:-1] == [f"n{n}" for n in range(460, 1, -1)]


def test_warnings_can_be_told_from_the_rest(visit: Visits, services: Services) -> None:
    measured_run(services, "run_a")
    step_done(services, "run_a", 13, 0.25)
    window = visit("/runs/run_a#events")
    window.sees("judge_slow", ".events li")
    assert window.find(".events li").count() == 2
    window.page.get_by_label("Which events").select_option("all")
    assert window.find(".events li").count() == 3
    window.page.get_by_label("Which events").select_option("warnings")
    assert window.find(".events li").count() == 1


def test_pause_and_resume_are_one_click_and_cancel_asks(visit: Visits, services: Services) -> None:
    new_run(services, "run_a", status="queued")
    window = visit("/runs/run_a")
    window.page.get_by_role("button", name="Pause").click()
    window.sees("paused", "h1")
    window.page.get_by_role("button", name="Resume").click()
    window.sees("queued", "h1")
    window.page.get_by_role("button", name="Cancel").click()
    window.page.get_by_role("dialog").get_by_role("button", name="Go back").click()
    window.page.get_by_role("dialog").wait_for(state="detached")
    window.page.get_by_role("button", name="Cancel").click()
    window.page.get_by_role("button", name="Cancel the run").click()
    window.sees("cancelled", "h1")
    assert window.find(".commands button").count() == 0


def test_a_command_that_came_too_late_shows_the_services_own_words(visit: Visits, services: Services) -> None:
    new_run(services, "run_a", status="paused")
    window = visit("/runs/run_a")
    window.page.get_by_role("button", name="Resume").wait_for()
    with services.database.write() as session:
        run = session.get(Run, "run_a")
        assert run is not None
        run.status = "failed"
    window.page.get_by_role("button", name="Resume").click()
    window.sees("failed", "#notices")


@pytest.mark.parametrize("scopes", [("read",), ("submit",)])
def test_who_may_not_change_the_run_sees_no_buttons(visit: Visits, services: Services, scopes: tuple[str, ...]) -> None:
    new_run(services, "run_a")
    window = visit("/runs/run_a", scopes=scopes)
    window.sees("running", "h1")
    assert window.find(".commands button").count() == 0
    assert window.page.get_by_role("link", name="Keys").count() == 0


def test_hostile_texts_stay_texts_in_name_log_error_and_spec(visit: Visits, services: Services) -> None:
    error = {"code": "judge_failed", "message": HOSTILE, "kind": "user", "traceback": f"Traceback\n{HOSTILE}"}
    measured_run(services, "run_a", status="failed", name=HOSTILE[:64], notes={"note": HOSTILE}, error=error)
    with services.database.write() as session:
        attempt = session.get(Attempt, ("run_a", 1))
        assert attempt is not None
        attempt.error, attempt.ending = error, "failed"
    window = visit("/runs/run_a")
    window.sees("<img src=x onerror=", "h1")
    window.sees("U+202E", ".state .trouble")
    for tab, place in (("Events", ".events li"), ("Attempts", "article"), ("Spec", "pre.spec")):
        window.page.get_by_role("tab", name=tab).click()
        window.sees("U+202E", place)
    assert window.unharmed()
    assert "\u202e" not in window.run("document.title")


def test_samples_stand_side_by_side_as_text_and_can_be_searched(visit: Visits, services: Services) -> None:
    new_run(services, "run_a", status="succeeded")
    small_run(services.run_folder("run_a"), hostile=HOSTILE)
    for t in (1, 2):
        started = {"iteration": t, "prompts": 8, "shards": 1, "steps": 2, "kappa": 0.005, "learning_rate": 1e-4}
        tell(services, "run_a", "iteration_started", started)
        tell(services, "run_a", "iteration_published", {"iteration": t, "total_steps": 2 * t, "checkpoint": None})
    window = visit("/runs/run_a#samples")
    window.sees("Question 2?", ".group")
    first = window.find("article.group").first
    assert first.locator("h4 span:first-child").all_inner_texts() == ["base", "iteration 2"]
    assert first.locator(".score").all_inner_texts() == ["0.00", "2.00"]
    window.sees("U+202E", ".answer")
    window.page.get_by_label("Search prompts and responses").fill("question 1?")
    assert window.find("article.group").count() == 1
    window.page.get_by_label("Search prompts and responses").fill("")
    window.page.get_by_label("Iteration to compare with").select_option("1")
    window.sees("iteration 1", "article.group h4")
    window.page.get_by_label("Kind of samples").select_option("training")
    window.sees("chosen", "article.group h4")
    assert window.unharmed()


def test_the_log_of_an_attempt_is_shown_from_its_end_and_goes_on(visit: Visits, services: Services) -> None:
    new_run(services, "run_a")
    path = services.run_folder("run_a") / "attempts" / "0001" / "driver.log"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"\x1b[32mline {n}\x1b[0m {HOSTILE}\n" for n in range(1500)))
    window = visit("/runs/run_a#logs")
    window.sees("line 1499", "pre.log")
    assert "line 0 " not in window.find("pre.log").inner_text()
    window.page.get_by_role("button", name="Show earlier lines").click()
    window.sees("line 500", "pre.log")
    with path.open("a") as log:
        log.write("and one more\n")
    window.sees("and one more", "pre.log")
    assert "\x1b" not in window.find("pre.log").inner_text()
    assert window.unharmed()


def test_the_end_of_a_run_is_seen_at_once_and_an_unknown_run_is_told(visit: Visits, services: Services) -> None:
    new_run(services, "run_a")
    window = visit("/runs/run_a")
    window.page.get_by_role("button", name="Pause").wait_for()
    bring(services, "run_a", "succeeded")
    window.sees("succeeded", "h1")
    window.go("/runs/run_nothing")
    window.sees("there is no run run_nothing", ".trouble")
    assert window.page.get_by_role("button", name="Pause").count() == 0


def test_tabs_are_reached_with_the_keyboard(visit: Visits, services: Services, admin: Headers) -> None:
    assert admin
    new_run(services, "run_a")
    window = visit("/runs/run_a")
    window.page.get_by_role("tab", name="Charts").focus()
    window.page.keyboard.press("End")
    window.sees("algorithm:", "pre.spec")
    assert window.run("document.activeElement.textContent") == "Spec"
    window.page.keyboard.press("ArrowRight")
    assert window.run("document.activeElement.textContent") == "Charts"


def test_windows_without_a_pair_stand_first_with_their_causes(visit: Visits, services: Services) -> None:
    new_run(services, "run_a")
    for n in (1, 2):
        metrics = {"pairs": 0.0, "skipped": 1.0, "tie_rate": 1.0, "no_pair/one_score": 4.0}
        made = {"attempt": 1, "iteration": 1, "step": n, "seconds": 0.1, "at": services.clock()}
        with services.database.write() as session:
            session.add(Step(run_id="run_a", total_step=n, metrics=metrics, **made))
    window = visit("/runs/run_a")
    window.sees("no window had a pair so far (2 windows), and they took no optimizer step", ".trouble")
    window.sees("the judge gave one and the same score to every response of every prompt (8 prompts)", ".trouble li")
    metrics = {"pairs": 4.0, "skipped": 0.0, "loss": 0.6}
    payload = {"iteration": 1, "step": 3, "total_step": 3, "metrics": metrics, "seconds": 0.1, "replayed": False}
    tell(services, "run_a", "step_done", payload)
    window.sees("2 of 3 windows had no pair", ".trouble")
    assert window.complaints == []
