"""The file: complete in itself, made in every state of a run, and safe from the texts that it shows."""

import base64
import hashlib
import html.parser
import json
import re
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from tests.xpo_ray.report.folders import attempt_in, judged_row, put_held_out, small_run
from tests.xpo_ray.report.test_charts import coloured
from xpo_ray.errors import OutputError
from xpo_ray.report import write_report
from xpo_ray.report.sections import SECTIONS
from xpo_ray.reporting import IterationStarted, RunStarted, Warned

HOSTILE = (
    '</script><script>document.title="owned"</script><img src=x onerror="document.title=1">'
    "{{ 7*7 }} ]]> <!-- <a href=javascript:alert(1)>x</a> \u2028 & \"' "
)


class Page(html.parser.HTMLParser):
    """The tags of a page, and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.texts: list[str] = []
        self._script: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.texts.append(data)
        else:
            self.scripts.append((self._script, data))

    def handle_endtag(self, _tag: str) -> None:
        self._script = None

    @property
    def charts(self) -> list[Any]:
        (text,) = [text for attrs, text in self.scripts if attrs.get("id") == "charts"]
        charts: list[Any] = json.loads(text)
        return charts

    @property
    def policy(self) -> str:
        (meta,) = [a for tag, a in self.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
        return str(meta["content"])


def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page(write_report(small_run(tmp_path_factory.mktemp("run"), hostile=HOSTILE, name="hostile-run")))


def test_the_report_lies_in_the_run_s_folder_unless_another_file_is_named(tmp_path: Path) -> None:
    root = small_run(tmp_path / "run")
    assert write_report(root) == root / "report.html"
    assert write_report(root, tmp_path / "elsewhere" / "r.html").is_file()


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    root = small_run(tmp_path / "run")
    with pytest.raises(OutputError, match="is a folder; name a file"):
        write_report(root, tmp_path)
    with pytest.raises(OutputError, match="name another file"):
        write_report(root, root / "run.json" / "r.html")


def test_every_section_has_its_place_and_its_entry_in_the_contents(report: Page) -> None:
    places = [a["id"] for tag, a in report.tags if tag == "section" and a.get("class") == "part"]
    links = [a["href"] for tag, a in report.tags if tag == "a" and a.get("class") is None]
    assert len(places) == len(SECTIONS)
    assert links == [f"#{place}" for place in places]
    ids = [a["id"] for _, a in report.tags if "id" in a]
    assert len(ids) == len(set(ids))


def test_nothing_is_fetched_from_outside(report: Page) -> None:
    for tag, attrs in report.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            value = attrs.get(name)
            assert value is None or value.startswith("#") or value == "data:,", f"{tag} {name}={value}"
    assert "default-src 'none'" in report.policy


def test_each_chart_has_one_place_in_order_and_is_one_that_plotly_knows(report: Page) -> None:
    places = [a["data-chart"] for _, a in report.tags if "data-chart" in a]
    assert places == [str(i) for i in range(len(report.charts))]
    assert len(places) > 15
    for chart in report.charts:
        go.Figure(coloured(chart), skip_invalid=False)


def test_a_hostile_response_is_shown_as_text_and_makes_no_tag(report: Page) -> None:
    assert f"{HOSTILE} 2" in report.texts
    assert "img" not in [tag for tag, _ in report.tags]
    assert not [a for _, a in report.tags if any(name.startswith("on") for name in a)]
    assert len(report.scripts) == 3  # charts, Plotly, ours


def test_hostile_names_and_reasons_are_text_too(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(RunStarted("run_x", 1, 2, 4), Warned("odd", HOSTILE))
        put_held_out(run.attempt, 0, [judged_row(0, HOSTILE, HOSTILE)])
    shown = page(write_report(tmp_path))
    assert shown.texts.count(HOSTILE) == 3
    assert "img" not in [tag for tag, _ in shown.tags]


def test_the_policy_lets_the_page_s_own_scripts_run_and_no_others(report: Page) -> None:
    allowed = re.findall(r"'sha256-([^']+)'", report.policy)
    ours = [text for attrs, text in report.scripts if "type" not in attrs]
    assert allowed == [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in ours]
    scripts = next(part for part in report.policy.split(";") if part.strip().startswith("script-src"))
    assert "unsafe" not in scripts


def test_a_page_without_figures_carries_no_plotly(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(RunStarted("run_x", 1, 2, 4))
        path = write_report(tmp_path)
    assert path.stat().st_size < 100_000
    assert "running" in page(path).texts


def test_a_table_that_cannot_be_read_costs_its_sections_alone(tmp_path: Path) -> None:
    root = small_run(tmp_path)
    for data in root.rglob("judged/*.parquet"):
        data.write_bytes(b"gone")
    shown = page(write_report(root))
    assert [t for t in shown.texts if "cannot be read" in t]
    assert "Held-out reward" in shown.texts  # of the journal
    assert len([a for tag, a in shown.tags if tag == "section" and a.get("class") == "part"]) == len(SECTIONS)


def test_a_second_run_that_is_none_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    root = small_run(tmp_path / "run")
    with pytest.raises(OutputError, match="is no run folder"):
        write_report(root, against=tmp_path)
    assert not (root / "report.html").exists()


def test_the_head_tells_constants_and_those_that_change_with_the_iterations(tmp_path: Path) -> None:
    told = [" ".join(Page(write_report(small_run(tmp_path / "one")).read_text()).texts)]
    algorithm = {"kind": "selm", "beta": [0.5, 0.25], "alpha": 0.01}
    with attempt_in(tmp_path / "two", algorithm=algorithm) as run:
        for t, kappa in ((1, 0.005), (2, 0.0025)):
            run.tell(IterationStarted(t, 3, 1, 1, kappa, 1e-4))
    told.append(" ".join(Page(write_report(tmp_path / "two").read_text()).texts))
    assert "β = 0.5" in told[0]
    assert "β from 0.5 to 0.25, κ from 0.005 to 0.0025" in told[1]
