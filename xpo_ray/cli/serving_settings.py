"""The settings of `xpo-ray serve`, looked over before anything starts: each fault is one line with flag, value and remedy.

What only a try can show (a port, a database that does not answer) is said by serving.py.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from xpo_ray.api.settings import Settings, load_settings
from xpo_ray.errors import OutputError, UserError

KINDS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")


def read_settings(config: Path | None, flags: dict[str, Any]) -> Settings:
    """Flags, then XPO_RAY_… variables, then the file. Raises UserError."""
    _readable(config)
    try:
        return load_settings(config, **flags)
    except SettingsError as error:
        raise UserError(f"settings: {error}; see `xpo-ray serve --help`") from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r:.80}" for e in error.errors()]
        where = f"flags, XPO_RAY_… variables{'' if config is None else f', {config}'}"
        raise UserError(f"settings ({where}): {'; '.join(faults)}") from error


def checked(settings: Settings, admin_key_file: Path | None) -> Settings:
    """The same settings, when the service can begin with them. Raises UserError."""
    if not settings.port:
        raise UserError("--port 0: drivers must find the API again after its restart; name a port")
    _writable(settings.storage, "--storage")
    if admin_key_file is not None:
        _writable(admin_key_file.parent, "--admin-key-file")
        if admin_key_file.is_dir():
            raise UserError(f"--admin-key-file {admin_key_file}: is a folder; name a file")
    _folders(settings.roots, "--root")
    _folders(settings.plugin_path, "--plugin-path")
    for name in settings.plugins:
        if name.count(":") != 1 or not all(name.split(":")):
            raise UserError(f"--plugin {name}: expected module:function or module:*")
    for name in settings.judge_actors:
        if not all(name.partition("/")[::2]):
            raise UserError(f"--judge-actor {name}: expected namespace/name or namespace/*")
    if settings.ray_token_file is not None and not settings.ray_token_file.is_file():
        raise UserError(f"--ray-token-file {settings.ray_token_file}: no such file")
    _secrets(settings)
    _database(settings)
    return settings


def shown_url(url: str) -> str:
    """A database's URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


def _readable(config: Path | None) -> None:
    if config is None:
        return
    try:
        raw = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {config}: {error.strerror}; name a YAML file with settings") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {config}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict | None):
        raise UserError(f"--config {config}: settings are a mapping, got {type(raw).__name__}; for example port: 8600")


def _writable(folder: Path, flag: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{flag} {folder}: {error.strerror}; name a folder that this user may write") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{flag} {folder}: may not be written by this user; name another folder")


def _folders(named: Sequence[str], flag: str) -> None:
    for each in named:
        if not Path(each).is_dir():
            what = "is no folder" if Path(each).exists() else "there is no such folder"
            raise UserError(f"{flag} {each}: {what}; name one that exists")


def _secrets(settings: Settings) -> None:
    try:
        settings.secrets()
    except (OSError, ValueError, AttributeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no JSON object of names and texts"
        raise UserError(f"--secrets-file {settings.secrets_file}: {why}") from error


def _database(settings: Settings) -> None:
    """That the URL is one that the service can use; whether anybody answers there is not asked."""
    remedy = "give postgresql+psycopg://user@host/name or sqlite:////absolute/path"
    try:
        url = make_url(settings.database)
    except ArgumentError as error:
        raise UserError(f"--database-url {settings.database!r:.80}: is no URL; {remedy}") from error
    if url.drivername not in KINDS or not url.database or url.database == ":memory:":
        raise UserError(f"--database-url {shown_url(settings.database)}: cannot be used; {remedy}")
    if not settings.on_sqlite:
        try:
            import psycopg  # noqa: F401
        except ImportError as error:
            raise UserError('--database-url: PostgreSQL needs its driver: pip install "xpo-ray[postgres]"') from error
