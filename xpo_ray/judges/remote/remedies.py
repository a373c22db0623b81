"""What a user can do about a call that failed, where the failure itself says it. Pure; the caller puts it behind the reason."""

import socket
import ssl

from xpo_ray.spec.remote_judge import HttpJudge, RemoteJudge

NOT_LET_IN = frozenset({401, 403})
"""The token is wrong or worn out; a new one helps."""


def of_error(error: BaseException) -> str:
    """Behind a connection that could not be made."""
    for each in _causes(error):
        if isinstance(each, socket.gaierror):
            return "; check the host in judge.url"
        if isinstance(each, ssl.SSLCertVerificationError):
            return "; the endpoint needs a certificate for this name that is trusted here; SSL_CERT_FILE names more authorities"
        if isinstance(each, ssl.SSLError):
            return "; where the endpoint speaks no TLS, judge.url begins with http://"
    return ""


def of_status(spec: RemoteJudge, status: int) -> str:
    """Behind an answer that is a refusal."""
    if status in NOT_LET_IN:
        return (
            "; set judge.token_env to the environment variable with its token"
            if spec.token_env is None
            else f"; put a token that the endpoint takes into {spec.token_env}"
        )
    if status == 413:
        return "; lower judge.batch_size" if isinstance(spec, HttpJudge) else ""
    return "; check judge.url" if status in (404, 405) else ""


def of_pause(spec: RemoteJudge, asked_s: float | None) -> str:
    """Behind a Retry-After that is not waited for."""
    if asked_s is None or asked_s <= spec.patience_s:
        return ""
    return f"; it asks for a pause of {asked_s:.0f} s, longer than judge.patience_s {spec.patience_s:g}"


def _causes(error: BaseException) -> list[BaseException]:
    out: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in out:
        out.append(at)
        at = at.__cause__ or at.__context__
    return out
