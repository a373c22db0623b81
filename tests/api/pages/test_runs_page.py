"""The list of runs in a real Chromium: login, live rows, filters, hostile names, a service that goes away and comes back."""

import re

import pytest

from tests.api.conftest import Headers
from tests.api.pages.conftest import Visits
from tests.api.pages.rows import HOSTILE, bring, new_run
from tests.api.pages.serving import Served
from xpo_ray.api.services import Services

pytestmark = pytest.mark.browser
ROWS = "table.runs tbody tr"


def test_a_visitor_without_a_session_logs_in_and_the_browser_keeps_no_key(
    visit: Visits, services: Services, admin: Headers
) -> None:
    new_run(services, "run_a")
    window = visit("/runs/run_a#spec")
    secret = admin["Authorization"].removeprefix("Bearer ")
    window.page.context.clear_cookies()
    window.go("/runs/run_a#spec")
    window.page.get_by_label("API key").fill(secret[:-1])
    window.page.get_by_role("button", name="Log in").click()
    window.sees("this key is not known", ".trouble")
    window.page.get_by_label("API key").fill(f" {secret} ")
    window.page.get_by_role("button", name="Log in").click()
    window.sees("run_a", "h1")
    assert window.run("location.pathname + location.hash") == "/runs/run_a#spec"
    (cookie,) = window.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    kept = "[document.cookie, ...Object.values(localStorage), ...Object.values(sessionStorage)].join()"
    assert secret not in window.run(kept) + window.run("document.documentElement.outerHTML")


@pytest.mark.parametrize(
    "target", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
def test_the_login_leads_to_this_site_alone(visit: Visits, admin: Headers, target: str) -> None:
    window = visit(f"/login?next={target}")
    window.page.get_by_label("API key").fill(admin["Authorization"].removeprefix("Bearer "))
    window.page.get_by_role("button", name="Log in").click()
    window.sees("Runs", "h1")
    assert window.run("location.host") == window.url.removeprefix("http://")


def test_an_empty_service_says_how_to_begin(visit: Visits) -> None:
    window = visit("/")
    window.sees("xpo-ray submit SPEC --follow", ".empty")
    assert window.find("table.runs tbody tr").count() == 0


def test_rows_change_by_themselves_and_keep_the_focus(visit: Visits, services: Services) -> None:
    progress = {"iteration": 1, "iterations": 3, "steps": 20, "total_steps": 48, "seconds_remaining": 431.0}
    new_run(services, "run_a", progress=progress)
    new_run(services, "run_q", status="queued", waiting_for="2 CPUs are asked for, 0 are free")
    window = visit("/")
    window.sees("iteration 2/3 · step 20/48", ROWS)
    window.sees("7 min 11 s left", ROWS)
    window.sees("1st in the queue", ROWS)
    window.sees("2 CPUs are asked for, 0 are free", ROWS)
    window.page.get_by_role("link", name="run_a").focus()
    bring(services, "run_a", "succeeded")
    window.sees("succeeded", ROWS)
    assert window.run("document.activeElement.getAttribute('href')") == "/runs/run_a"
    assert window.complaints == []


def test_status_filter_search_and_metadata_narrow_the_list(visit: Visits, services: Services) -> None:
    new_run(services, "run_one", name="alpha", notes={"team": "red"})
    new_run(services, "run_two", name="beta", status="failed", notes={"team": "blue"})
    window = visit("/")
    window.sees("alpha", ROWS)
    window.page.get_by_label("Status").select_option("failed")
    window.counts(1, ROWS)
    assert "beta" in window.find(ROWS).inner_text()
    assert window.run("location.search") == "?status=failed"
    window.page.get_by_label("Status").select_option("")
    window.counts(2, ROWS)
    window.page.get_by_label("Search runs").fill("ALPH")
    assert window.find(ROWS).count() == 1
    window.page.get_by_label("Search runs").fill("no such words")
    window.sees("No run here has these words.", ".empty")
    window.page.get_by_label("Search runs").fill("team:blue")
    window.counts(1, ROWS)
    assert "beta" in window.find(ROWS).inner_text()


def test_a_hostile_name_and_metadata_are_text_with_their_unseen_characters_shown(
    visit: Visits, services: Services
) -> None:
    new_run(services, "run_a", name=HOSTILE[:64], notes={"note": HOSTILE, HOSTILE[:40]: "x"})
    window = visit("/")
    window.sees("<img src=x onerror=", ROWS)
    window.sees("U+202E", ROWS)
    window.sees("U+200B", ROWS)
    assert window.unharmed()
    assert all(url.startswith((window.url, "data:")) for url in window.requests if url != "about:blank")


def test_a_service_that_goes_away_is_told_and_the_page_heals_by_itself(
    visit: Visits, services: Services, served: Served
) -> None:
    new_run(services, "run_a")
    window = visit("/")
    window.sees("running", ROWS)
    served.stop()
    window.sees("The service does not answer. Trying again", "#banner")
    bring(services, "run_a", "succeeded")
    served.start()
    window.page.wait_for_selector("#banner", state="hidden")
    window.sees("succeeded", ROWS)


def test_a_session_that_ends_leads_to_the_login_and_back(visit: Visits, services: Services, admin: Headers) -> None:
    new_run(services, "run_a")
    window = visit("/?status=failed")
    window.sees("No run is like this.", ".empty")
    window.page.context.clear_cookies()
    window.page.wait_for_url(re.compile(r"/login\?next=%2F%3Fstatus%3Dfailed$"))
    window.page.get_by_label("API key").fill(admin["Authorization"].removeprefix("Bearer "))
    window.page.get_by_role("button", name="Log in").click()
    window.sees("No run is like this.", ".empty")
    assert window.run("location.pathname + location.search") == "/?status=failed"
