"""Where the shell keeps the service's URL and the user's key: ~/.config/xpo_ray/client.json, mode 0600.

`xpo-ray login` writes it, the drivers read it where neither arguments nor XPO_RAY_URL and XPO_RAY_KEY say otherwise.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from xpo_ray.errors import UserError


@dataclass(frozen=True)
class Login:
    """A service and a key for it."""

    url: str
    key: str | None


def login_path() -> Path:
    """The file, below XDG_CONFIG_HOME where that is set."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "xpo_ray" / "client.json"


def current_login(url: str | None = None, key: str | None = None) -> Login:
    """What to use: arguments, then the environment, then the file. A key of the file goes to the URL of the file alone."""
    url, key = url or os.environ.get("XPO_RAY_URL"), key or os.environ.get("XPO_RAY_KEY")
    kept = None if url and key else read_login()
    if not url and kept is None:
        raise UserError("no service is named: run `xpo-ray login URL`, or set XPO_RAY_URL and XPO_RAY_KEY")
    if kept is not None and (not url or _same(url, kept.url)):
        return Login(kept.url, key or kept.key)
    assert url is not None
    return Login(checked_url(url), key)


def read_login() -> Login | None:
    """What the file says, None where there is none. Raises UserError where it cannot be understood."""
    path = login_path()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Login(checked_url(found["url"]), found.get("key"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be understood ({error}); run `xpo-ray login URL` again") from error


def write_login(login: Login) -> Path:
    """Write the file for the user alone; a reader never sees half of it."""
    path = login_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump({"url": login.url, "key": login.key}, file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return path


def checked_url(url: str) -> str:
    """The URL without a slash at its end. Raises UserError where it is none."""
    if not url.startswith(("http://", "https://")) or any(c.isspace() for c in url):
        raise UserError(f"the service's URL {url!r}: expected http://host:port or https://host")
    return url.rstrip("/")


def _same(one: str, other: str) -> bool:
    return one.rstrip("/").lower() == other.rstrip("/").lower()
