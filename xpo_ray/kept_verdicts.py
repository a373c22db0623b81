"""Verdicts about models that are kept for the next run: small texts in a cache folder of the user, by all that decides them.

The read for NaN and the rehearsal keep theirs here. A folder that cannot be written, or a file that cannot be read, is as if
nothing had been kept; nothing here ever fails a run.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xpo_ray.spec.loading import digest
from xpo_ray.user_cache import user_cache

FOLDER = "XPO_RAY_VERDICTS"
"""Names another folder than the one in the user's cache."""


@dataclass(frozen=True)
class KeptVerdicts:
    """A folder of verdicts, one file each."""

    folder: Path

    @classmethod
    def of_user(cls) -> "KeptVerdicts":
        if own := os.environ.get(FOLDER):
            return cls(Path(own))
        return cls(user_cache() / "verdicts")

    def find(self, key: Sequence[object]) -> str | None:
        """The verdict under a key."""
        try:
            kept = json.loads(self._file(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        verdict = kept.get("verdict") if isinstance(kept, dict) else None
        return verdict if isinstance(verdict, str) else None

    def keep(self, key: Sequence[object], verdict: str) -> None:
        """Put a verdict down; another process that does the same at once does no harm."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, written = tempfile.mkstemp(dir=self.folder, suffix=".tmp")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump({"verdict": verdict}, stream)
            Path(written).replace(self._file(key))

    def _file(self, key: Sequence[object]) -> Path:
        return self.folder / f"{digest(list(key))[:32]}.json"
