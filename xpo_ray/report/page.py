"""The page: sections through the template into one HTML file without any reference to the outside.

Called by `xpo-ray report` and at the end of a run. Texts are escaped by Jinja2; data for scripts is JSON in which no tag can
end; a content security policy names the hashes of the page's own scripts, so that nothing else can run or be fetched.
"""

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from xpo_ray import __version__
from xpo_ray.errors import CorruptArtifact, OutputError
from xpo_ray.report.blocks import Figure, Note, Row, Section
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.sections import SECTIONS, MakeSection
from xpo_ray.report.wording import fixed
from xpo_ray.storage import replace_file

FILE_NAME = "report.html"


def write_report(root: Path, output: Path | None = None, against: Path | None = None) -> Path:
    """Write the report of the run in `root` and return its path. Raises UserError where a folder holds no run."""
    run = RunFolder.open(root)
    other = None if against is None else RunFolder.open(against)
    path = output or run.root / FILE_NAME
    if path.is_dir():
        raise OutputError(f"--output {path} is a folder; name a file, such as {path / FILE_NAME}")
    text = render(run, other).encode()
    try:
        replace_file(path, text)
    except OSError as error:
        raise OutputError(f"the report cannot be written to {path}: {error}; name another file by --output") from error
    return path


def render(run: RunFolder, other: RunFolder | None) -> str:
    """The whole page."""
    sections = [_made(make, run, other) for make in SECTIONS]
    charts = [figure.chart for section in sections for figure in _figures(section)]
    scripts = (_plotly() if charts else "", _part("report.js"))
    return (
        _environment()
        .get_template("report.html")
        .render(
            run=run,
            other=other,
            algorithm=_algorithm(run),
            sections=sections,
            charts=htmlsafe_json_dumps(charts, allow_nan=False, separators=(",", ":")),
            style=Markup(_part("report.css")),
            scripts=[Markup(s) for s in scripts],
            policy=_policy(scripts),
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            version=__version__,
        )
    )


def _made(make: MakeSection, run: RunFolder, other: RunFolder | None) -> Section:
    """A section, or its heading with the reason why a committed table could not be read."""
    try:
        return make(run, other)
    except CorruptArtifact as error:
        name = make.__name__
        return Section(name, name.capitalize(), "", (Note(str(error)),))


def _figures(section: Section) -> list[Figure]:
    """Figures in the order in which the template numbers them."""
    figures: list[Figure] = []
    for block in section.blocks:
        if isinstance(block, Figure):
            figures.append(block)
        elif isinstance(block, Row):
            figures.extend(block.figures)
    return figures


def _algorithm(run: RunFolder) -> str:
    """The algorithm with the constants that decide what it learns."""
    algorithm = run.spec["algorithm"]
    kappas = list(dict.fromkeys(float(e["kappa"]) for _, e in sorted(run.history.iterations.items())))
    betas = list(dict.fromkeys(run.beta(t) for t in sorted(run.history.iterations) or [1]))
    parts = [f"{algorithm['kind']}, objective {algorithm['objective']['kind']}", _told("β", betas), _told("κ", kappas)]
    return ", ".join(p for p in parts if p)


def _told(name: str, values: list[float]) -> str:
    """A constant, or the first and last of one that changes with the iterations."""
    if not values:
        return ""
    return f"{name} = {values[0]:g}" if len(values) == 1 else f"{name} from {values[0]:g} to {values[-1]:g}"


def _policy(scripts: tuple[str, ...]) -> str:
    """Nothing is fetched; only our scripts run. Plotly writes style rules, hence inline styles."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts if s
    )
    allowed = {
        "default-src": "'none'",
        "script-src": hashes,
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{what} {sources}" for what, sources in allowed.items())


@cache
def _plotly() -> str:
    """Plotly's script from its own package, without importing the package's Python."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _part(name: str) -> str:
    return (files("xpo_ray.report") / "template" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("xpo_ray.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fixed"] = fixed
    return environment
