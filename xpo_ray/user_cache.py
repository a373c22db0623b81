"""The user's cache folder: what is made once and can be made again. Whoever writes there writes aside and renames."""

import os
from pathlib import Path


def user_cache() -> Path:
    """$XDG_CACHE_HOME/xpo_ray, or ~/.cache/xpo_ray; it may not exist."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The standard has relative paths ignored.
    return (Path(given) if Path(given).is_absolute() else Path.home() / ".cache") / "xpo_ray"
