"""The report in a real Chromium: no errors, no requests, search, theme, widths, and a hostile response."""

import pytest
from playwright.sync_api import Browser, Page

from tests.xpo_ray.report.folders import small_run
from tests.xpo_ray.report.test_page import HOSTILE
from xpo_ray.report import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(small_run(tmp_path_factory.mktemp("run"), hostile=HOSTILE)).as_uri()


class Opened:
    """The report in a page of its own, with what went wrong and what was asked of the network."""

    def __init__(self, chromium: Browser, address: str, *, width: int = 1280, scheme: str = "light") -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = chromium.new_page(viewport={"width": width, "height": 900})
        self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.page.wait_for_function("document.querySelectorAll('.chart .main-svg').length > 0")

    def colour(self, selector: str, name: str) -> str:
        script = f"getComputedStyle(document.querySelector('{selector}')).{name}"
        return str(self.page.evaluate(script))

    def shown(self) -> int:
        return self.page.locator("article.group:visible").count()


def test_it_opens_without_a_complaint_and_without_the_network(chromium: Browser, report: str) -> None:
    opened = Opened(chromium, report)
    places, drawn = (opened.page.locator(s).count() for s in (".chart", ".chart .svg-container"))
    assert drawn == places > 15
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []


def test_a_hostile_response_does_nothing(chromium: Browser, report: str) -> None:
    opened = Opened(chromium, report)
    assert opened.page.title() == "by-hand · xpo_ray"
    assert opened.page.locator("main img").count() == 0
    assert HOSTILE.strip()[:40] in opened.page.locator("article.group .answer .text").first.inner_text()


def test_search_filters_the_samples_and_says_how_many_are_left(chromium: Browser, report: str) -> None:
    opened = Opened(chromium, report)
    assert opened.shown() == 3
    opened.page.fill("#search", "question 1?")
    assert opened.shown() == 1
    assert opened.page.inner_text("#found") == "1 of 3 prompts"
    opened.page.fill("#search", "no such words")
    assert opened.shown() == 0
    opened.page.fill("#search", "")
    assert opened.shown() == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_and_the_button_turns_it_in_text_and_figures(
    chromium: Browser, report: str, scheme: str
) -> None:
    opened = Opened(chromium, report, scheme=scheme)

    def colours() -> tuple[str, str, str]:
        background = opened.colour("body", "backgroundColor")
        return background, opened.colour(".chart .xtick text", "fill"), opened.colour(".chart .js-line", "stroke")

    before = colours()
    assert opened.page.evaluate("document.documentElement.dataset.theme") == scheme
    opened.page.click("#theme")
    after = colours()
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert (sum(map(int, before[0][4:-1].split(", "))) > 400) == (scheme == "light")
    opened.page.click("#theme")
    assert colours() == before


WIDEST = "Math.max(...[...document.querySelectorAll('.chart svg.main-svg')].map(s => s.clientWidth))"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_no_wider_than_its_window(chromium: Browser, report: str, width: int) -> None:
    opened = Opened(chromium, report, width=width)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.evaluate(WIDEST) <= width


def test_figures_follow_a_window_that_becomes_narrow(chromium: Browser, report: str) -> None:
    opened = Opened(chromium, report)
    opened.page.set_viewport_size({"width": 390, "height": 900})
    opened.page.wait_for_function(f"{WIDEST} <= 390")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_on_paper_the_page_is_light_and_fits_and_the_screen_is_as_before_afterwards(
    chromium: Browser, report: str
) -> None:
    opened = Opened(chromium, report, scheme="dark")
    before = opened.page.evaluate(WIDEST)
    opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert opened.page.evaluate("document.documentElement.dataset.theme") == "light"
    assert opened.page.evaluate(WIDEST) <= 680
    opened.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert opened.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert opened.page.evaluate(WIDEST) == before
