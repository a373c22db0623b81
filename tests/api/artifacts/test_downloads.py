"""A file that is sent is closed at the end, whoever went away in the middle."""

import asyncio
import io
from typing import Any

import pytest

from xpo_ray.api.artifacts.downloads import download


class Away(Exception):
    """The caller has gone."""


@pytest.mark.parametrize("bodies", [0, 1, 5])
def test_a_file_is_closed_when_the_caller_goes_away(bodies: int) -> None:
    file = io.BytesIO(bytes(3 * 2**20))
    sent = 0

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal sent
        if message["type"] == "http.response.body":
            sent += 1
            if sent > bodies:
                raise Away

    async def answer() -> None:
        scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
        await download(file, "a.bin", 3 * 2**20, "0" * 64, {})(scope, receive, send)

    if bodies < 4:
        with pytest.raises(Away):
            asyncio.run(answer())
    else:
        asyncio.run(answer())
    assert file.closed
