"""What the service writes to its log: one JSON object per line on stderr, with secrets blacked out by their value; on a
terminal, lines to be read by people.

`xpo-ray serve` calls `configure` once. Uvicorn's own access log stays off: it would write queries.
"""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable

from xpo_ray.api.settings import Settings

KEY = re.compile(r"(?:xpo|session|attempt|ticket)_[0-9a-z]{40,}(?:_[0-9a-f]{8})?")
"""A bearer key, a session's cookie, an attempt's token or ticket, wherever one gets into a line."""
BLACKED_OUT = "[secret]"
SHORTEST = 6
"""Shorter values of secrets are too much like other words."""


class JsonLines(logging.Formatter):
    """Log records as JSON lines without secrets."""

    def __init__(self, secrets: Callable[[], Iterable[str]] = tuple) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        line = {"at": record.created, "level": record.levelname, "logger": record.name}
        line["message"] = self._clean(record.getMessage())
        for name in ("request_id", "run_id"):
            if (value := getattr(record, name, None)) is not None:
                line[name] = self._clean(str(value))
        if record.exc_info:
            line["traceback"] = self._clean(self.formatException(record.exc_info))
        return json.dumps(line)

    def _clean(self, text: str) -> str:
        text = KEY.sub(BLACKED_OUT, text)
        for secret in self._secrets():
            if len(secret) >= SHORTEST:
                text = text.replace(secret, BLACKED_OUT)
        return text


class Readable(JsonLines):
    """The same for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:<7} {record.getMessage()}"
        return self._clean(line + ("\n" + self.formatException(record.exc_info) if record.exc_info else ""))


def configure(settings: Settings) -> None:
    """Send all records of this process to stderr, once."""
    values = [secret.get_secret_value() for secret in settings.secrets().values()]
    handler = logging.StreamHandler()
    formatter = Readable if sys.stderr.isatty() else JsonLines
    handler.setFormatter(formatter(lambda: values))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    logging.getLogger("httpx").setLevel(logging.WARNING)
