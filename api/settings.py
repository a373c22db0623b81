"""Settings of the service: flags of `xpo-ray serve`, then XPO_RAY_* variables, then a YAML file, then these defaults.

Read once at start. Nothing here reaches a driver but what its claim hands over.
"""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

Names = Annotated[tuple[str, ...], NoDecode]


class Limits(BaseModel):
    """What one caller, one request and one answer may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: int = Field(600, ge=1)
    """Per key; and per address for calls without a valid key a tenth of it."""
    body_mib: float = Field(1.0, gt=0)
    """Of a request that is no upload."""
    upload_mib: float = Field(2048.0, gt=0)
    page_items: int = Field(200, ge=1)
    streams_per_key: int = Field(20, ge=1)
    """Event streams that are open at a time."""
    queued_runs: int = Field(1000, ge=1)


class Settings(BaseSettings):
    """The service."""

    model_config = SettingsConfigDict(env_prefix="XPO_RAY_", env_nested_delimiter="__", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    """A non-loopback address is served only with keys; put TLS in front of it."""
    port: int = Field(8600, ge=0, le=65535)
    public_url: str | None = None
    """Where drivers and people reach the API, if not http://host:port."""
    trusted_hosts: Names = ()
    """Further names in the Host header that are answered, beside those of host and public_url."""
    storage: Path = Path("xpo-ray-data")
    """A folder that all nodes of the cluster see."""
    database_url: str | None = None
    """postgresql+psycopg://… or sqlite:///…; default: a SQLite file in the storage folder."""
    replicas: int = Field(1, ge=1)
    """API processes on this database; more than one needs PostgreSQL."""
    ray_address: str | None = None
    """Dashboard of a cluster to join, for example http://10.0.0.1:8265; default: a local head that this service starts."""
    ray_token_file: Path | None = None
    """Token of the cluster at ray_address; a local head's lies in the storage folder."""
    ray_dashboard_port: int = Field(0, ge=0, le=65535)
    """Of the local head; 0 takes a free one and keeps to it."""
    roots: Names = ()
    """Folders below which submitted specs may name files and models."""
    repositories: Names = ()
    """Hub repositories that specs may name: owner/name, or owner/*."""
    plugins: Names = ()
    """Python judges that specs may name: module:function, or module:*; nothing else is ever imported."""
    plugin_path: Names = ()
    """Folders in which plug-ins are looked up."""
    judge_actors: Names = ()
    """Named Ray actors that specs may have as judges: namespace/name, or namespace/*."""
    http_hosts: Names = ()
    """Hosts that HTTP judges and webhooks may call: name (at its standard port) or name:port."""
    secrets_file: Path | None = None
    """JSON object of named secrets that runs may ask for; they reach a run's processes alone."""
    dashboard_url: str | None = None
    """Of the Ray dashboard as people reach it; default: that of the head."""
    disk_floor_mib: float = Field(512.0, ge=0)
    """Free space under which nothing new is accepted or started. Runs under way stop at a quarter of it, and go on by
    themselves when there is room again."""
    storage_quota_gib: float | None = Field(None, gt=0)
    """All runs, datasets and models together."""
    most_attempts_without_progress: int = Field(4, ge=0)
    most_attempts_without_room: int = Field(20, ge=1)
    """Attempts in a row that a full disk ended, without progress between them, before the run pauses and says so; there is an
    hour between the first and the twentieth. While less than the floor is free none is made, and none counts."""
    heartbeat_s: float = Field(5.0, gt=0)
    lease_s: float = Field(60.0, gt=0)
    """A driver that is silent so long, while the API was up, is taken for dead."""
    stop_grace_s: float = Field(60.0, ge=0)
    """What a stopped driver gets for its checkpoint before it is killed."""
    cluster_cpus: float | None = Field(None, gt=0)
    """What the queue may give away; default: what the cluster says it has."""
    cluster_gpus: float | None = Field(None, ge=0)
    cluster_memory_gib: float | None = Field(None, gt=0)
    limits: Limits = Limits()
    log_level: str = "INFO"

    @field_validator(
        "roots", "repositories", "plugins", "plugin_path", "judge_actors", "http_hosts", "trusted_hosts", mode="before"
    )
    @classmethod
    def _list(cls, value: Any) -> Any:
        """A list, a JSON list, or names separated by commas."""
        if isinstance(value, str):
            return json.loads(value) if value.lstrip().startswith("[") else [v for v in value.split(",") if v]
        return value

    @property
    def database(self) -> str:
        """URL of the database."""
        return self.database_url or f"sqlite:///{self.storage.absolute() / 'xpo_ray.sqlite'}"

    @property
    def on_sqlite(self) -> bool:
        return self.database.startswith("sqlite")

    def hosts(self) -> list[str]:
        """Names under which this service may be called: a page elsewhere must not reach it by a name of its own."""
        own = [urlsplit(self.public_url).hostname or ""] if self.public_url else []
        wild = ["*"] if self.host in ("0.0.0.0", "::") and not own else []
        return [*wild, *own, *self.trusted_hosts, self.host, "localhost", "127.0.0.1"]

    def secrets(self) -> dict[str, SecretStr]:
        """The operator's named secrets, read anew each time so that they can be changed without a restart."""
        if self.secrets_file is None:
            return {}
        raw = json.loads(self.secrets_file.read_text())
        return {str(name): SecretStr(str(value)) for name, value in raw.items()}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def load_settings(file: Path | None, **flags: Any) -> Settings:
    """Settings of a start; flags that are None say nothing."""
    given = {name: value for name, value in flags.items() if value is not None}

    class FromFile(Settings):
        model_config = SettingsConfigDict(yaml_file=file)

    return FromFile(**given)
