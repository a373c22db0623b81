"""Every page at both widths in both themes: no wider than its window, text of enough contrast, every control with a name."""

import re
from importlib.resources import files

import pytest

from tests.api.pages.conftest import Visits
from tests.api.pages.rows import measured_run, new_run
from xpo_ray.api.services import Services

pytestmark = pytest.mark.browser
PAGES = ("/login", "/", "/keys", "/datasets", *(f"/runs/run_a{tab}" for tab in ("", "#events", "#attempts", "#spec")))

CONTRAST = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    const style = getComputedStyle(element);
    if (!walk.currentNode.data.trim() || !element.checkVisibility() || element.closest(":disabled, script, style")) continue;
    const front = light(channels(element.namespaceURI.endsWith("svg") ? style.fill : style.color));
    const back = light(behind(element));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${element.className} ${walk.currentNode.data.trim().slice(0, 30)}`);
  }
  return found;
}"""

NAMELESS = """() => [...document.querySelectorAll("button, input, select, textarea, progress, a, [role=img], [role=log]")]
  .filter((e) => e.checkVisibility() && !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim()))
  .map((e) => e.outerHTML)"""

MARKS = "() => [...document.querySelectorAll('.chart svg')].map((e) => e.querySelectorAll('.tick[text-anchor=end]').length)"
"""Numbers beside each chart, of which one says nothing about a distance."""

CLIPPED = """() => [...document.querySelectorAll(".status, button, time")]
  .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth).map((e) => e.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_every_page_fits_is_legible_and_has_names(visit: Visits, services: Services, width: int, scheme: str) -> None:
    measured_run(services, "run_a", name="a-name-without-any-place-to-break-it-that-is-as-long-as-may-be-63")
    for status in ("queued", "paused", "cancelling", "waiting_for_labels", "failed", "succeeded", "pausing"):
        new_run(services, f"run_{status}", status=status, waiting_for="for what it waits")
    window = visit("/", width=width, scheme=scheme)
    for path in PAGES:
        window.go(path)
        window.page.wait_for_selector("h1")
        window.page.wait_for_timeout(250)
        assert window.run("document.documentElement.scrollWidth") <= width, path
        assert window.run(CONTRAST) == [], path
        assert window.run(NAMELESS) == [], path
        assert all(marks >= 2 for marks in window.run(MARKS)), path
        assert window.run(CLIPPED) == [], path
    assert window.complaints == []


def test_the_pages_have_the_colours_of_the_report() -> None:
    """Two style sheets, as the report is one file; a name that stands in both means the same in light and in dark."""
    pages, report = (
        files(package).joinpath(path).read_text()
        for package, path in (("xpo_ray.api.pages", "static/colours.css"), ("xpo_ray.report", "template/report.css"))
    )
    for first in (0, 1):
        ours, theirs = (blocks_of(text)[first] for text in (pages, report))
        shared = ours.keys() & theirs.keys()
        assert len(shared) >= 15
        assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


def blocks_of(style: str) -> list[dict[str, str]]:
    """The custom properties of each block that sets a colour scheme, the light one first."""
    blocks = re.findall(r"\{([^{}]*color-scheme[^{}]*)\}", style)
    return [dict(re.findall(r"(--[\w-]+):\s*([^;]+);", block)) for block in blocks]
