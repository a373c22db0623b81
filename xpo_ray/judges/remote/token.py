"""The bearer token of a remote judge, from the environment variable that the spec names; its value is never said.

The judge's process and the checks before a run ask for it.
"""

import os

from xpo_ray.errors import JudgeError
from xpo_ray.spec.remote_judge import RemoteJudge


def token_of(spec: RemoteJudge) -> str | None:
    """The bearer token that the spec names. Raises JudgeError where it is not there or cannot be sent; never shows it."""
    if spec.token_env is None:
        return None
    token = os.environ.get(spec.token_env, "")
    if not token:
        raise JudgeError(
            f"judge.token_env {spec.token_env}: this variable is not set or empty; export it before the run, or ask "
            f"for it among the `secrets` of a submission"
        )
    if any(not "!" <= c <= "~" for c in token):
        raise JudgeError(
            f"judge.token_env {spec.token_env}: its value has a character that no token may have (a space or a line "
            f"break, say); set it to the token alone"
        )
    return token
