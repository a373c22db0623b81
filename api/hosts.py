"""Which hosts the service, and the runs of others, may call: the operator's list http_hosts.

Webhooks are checked when they are made and before each message, the judges of a run when it is submitted, forked, validated
or resumed, and before each attempt.
Whoever calls follows no redirect and uses no proxy, so that a host of the list leads to no other.
"""

from urllib.parse import urlsplit

from xpo_ray.api.problems import Refusal
from xpo_ray.api.settings import Settings

PORTS = {"http": 80, "https": 443}


def check_url(settings: Settings, url: str, field: str = "url") -> None:
    """Raises Refusal for a URL that is not http(s) to a host that the operator allows."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise _refused(url, f"not a URL ({error})", field) from error
    if parts.scheme not in PORTS or not host or parts.username is not None or parts.fragment:
        raise _refused(url, "expected http(s)://host[:port]/path, without a user and without a fragment", field)
    allowed = {name.lower() for name in settings.http_hosts}
    standard = port is None or port == PORTS[parts.scheme]
    if f"{host}:{port or PORTS[parts.scheme]}" not in allowed and not (standard and host in allowed):
        raise _refused(url, "the host is not on the operator's list http_hosts (name, or name:port)", field)


def _refused(url: str, why: str, field: str) -> Refusal:
    shown = url.partition("?")[0]  # the query may hold a key
    return Refusal(422, "url_not_allowed", f"{field} {shown!r:.200}: {why}", field=field)
