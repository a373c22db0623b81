"""The report of a run: that of its end, or one made now, at most every few seconds for each run.

The page comes with a policy that names its own scripts; the header repeats it and puts the page into an origin of its own,
so that nothing in it can act with the session of who reads it.
"""

import html
import re
import threading
import time
from collections import defaultdict
from pathlib import Path

from xpo_ray.api.problems import Refusal
from xpo_ray.errors import OutputError

FRESH_S = 10.0
LIVE = "report-live.html"
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')
_making: dict[Path, threading.Lock] = defaultdict(threading.Lock)
_registry = threading.Lock()


def report_of(root: Path, attempt: int, *, ended: bool) -> bytes:
    """The report as HTML. Raises Refusal where the run has nothing to tell yet."""
    finished = root / "attempts" / f"{attempt:04d}" / "report.html"
    if ended and finished.is_file() and not finished.is_symlink():
        return finished.read_bytes()
    with _registry:
        lock = _making[root]
    with lock:
        return _made(root)


def policy_of(page: bytes) -> str:
    """The content security policy of a report: its own, and a sandbox around it."""
    match = _POLICY.search(page[:65536].decode(errors="replace"))
    own = html.unescape(match[1]) if match else "default-src 'none'"
    return f"{own}; frame-ancestors 'self'; sandbox allow-scripts allow-downloads"


def _made(root: Path) -> bytes:
    from xpo_ray.report import write_report

    page = root / LIVE
    if not page.is_file() or time.time() - page.stat().st_mtime > FRESH_S:
        try:
            write_report(root, page)
        except OutputError as error:
            detail = "the run has not begun to work yet, so that there is nothing to report; ask again when it runs"
            raise Refusal(409, "report_not_ready", detail) from error
    return page.read_bytes()
