"""Event streams under load: clients that follow runs while the runs are edited, some cut off by force and back at once.

api_load.py calls `followed`. A client knows the `seq` that must come next, so that each gap and each repetition is seen.
"""

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from api_load_callers import Caller, Served, get, patch, post

CUTS = 100
EDITS_PER_S = 20.0
SECONDS = 15.0
AWAY_MOST_S = 120.0
"""After the runs are cancelled every stream must have ended within this time."""


class Follower:
    """A client of one stream; the next connection goes on behind the last event that came."""

    def __init__(self, served: Served, run_id: str) -> None:
        self.run_id, self.seq, self.gaps, self.cuts = run_id, 0, 0, 0
        self.arrivals: dict[int, float] = {}
        self.ended = False
        self._served = served
        self._writer: asyncio.StreamWriter | None = None

    async def follow(self) -> None:
        """Until the stream says that nothing more will come."""
        while not self.ended:
            try:
                async for seq in self._events():
                    self.gaps += seq != self.seq + 1
                    self.seq = seq
                    self.arrivals[seq] = time.perf_counter()
            except (OSError, asyncio.IncompleteReadError):
                continue

    def cut(self) -> None:
        """Drop the connection without a word."""
        if self._writer is not None and not self.ended:
            self.cuts += 1
            self._writer.transport.abort()

    async def _events(self) -> AsyncIterator[int]:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._served.port)
        headers = {"Last-Event-ID": str(self.seq)} if self.seq else {}
        self._writer.write(get(self._served, f"/v1/runs/{self.run_id}/events/stream", **headers))
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head[:16]:
            raise SystemExit(f"a stream was refused: {head[:200]!r}")
        while size := int(await reader.readline() or b"-1", 16):
            if size < 0:
                raise ConnectionResetError("cut")
            text = (await reader.readexactly(size + 2))[:-2]
            for line in text.split(b"\n"):
                if line.startswith(b"id: "):
                    yield int(line[4:])
        self.ended = True
        self._writer.close()


async def followed(served: Served, ids: Sequence[str], clients: int) -> dict[str, float]:
    """Streams of so many clients over these runs: gaps, and how late events came."""
    followers = [Follower(served, ids[n % len(ids)]) for n in range(clients)]
    following = [asyncio.ensure_future(each.follow()) for each in followers]
    await _all_begun(followers)
    cpu, began = served.cpu_s(), time.perf_counter()
    edited, _ = await asyncio.gather(_edit(served, ids), _cut(followers))
    took, spent = time.perf_counter() - began, served.cpu_s() - cpu
    last = {run_id: await _cancel(served, run_id) for run_id in ids}
    await asyncio.wait_for(asyncio.gather(*following), AWAY_MOST_S)
    late = sorted(
        each.arrivals[seq] - at for each in followers for seq, at in edited[each.run_id].items() if seq in each.arrivals
    )
    missing = sum(each.seq != last[each.run_id] for each in followers)
    return {
        "SSE clients": clients,
        "SSE forced reconnects": sum(each.cuts for each in followers),
        "SSE gaps": sum(each.gaps for each in followers) + missing,
        "SSE events/s": len(late) / took,
        "SSE p50 ms after the edit": 1000 * late[len(late) // 2],
        "SSE p99 ms after the edit": 1000 * late[len(late) * 99 // 100],
        "SSE share of a core": spent / took,
    }


async def _all_begun(followers: Sequence[Follower]) -> None:
    deadline = time.perf_counter() + AWAY_MOST_S
    while any(not each.seq for each in followers):
        if time.perf_counter() > deadline:
            raise SystemExit("some streams brought nothing")
        await asyncio.sleep(0.1)


async def _edit(served: Served, ids: Sequence[str]) -> dict[str, dict[int, float]]:
    """Edit the runs in turn; returns when each event was asked for, by run and `seq`."""
    asked: dict[str, dict[int, float]] = defaultdict(dict)
    caller = await Caller.connected(served.port)
    began = time.perf_counter()
    for n in range(int(SECONDS * EDITS_PER_S)):
        await asyncio.sleep(max(0.0, began + n / EDITS_PER_S - time.perf_counter()))
        run_id = ids[n % len(ids)]
        at = time.perf_counter()
        status, body = await caller.ask(patch(served, f"/v1/runs/{run_id}", b'{"metadata": {"edit": "%d"}}' % n))
        if status != 200:
            raise SystemExit(f"an edit was refused: {status} {body!r}")
        asked[run_id][len(asked[run_id]) + 2] = at
    caller.close()
    return asked


async def _cut(followers: Sequence[Follower]) -> None:
    """Cut one connection after the other, evenly over the time."""
    for follower in random.Random(0).choices(followers, k=CUTS):
        await asyncio.sleep(SECONDS / CUTS)
        follower.cut()


async def _cancel(served: Served, run_id: str) -> int:
    """End a run; returns the `seq` of its last event."""
    caller = await Caller.connected(served.port)
    await caller.ask(post(served, f"/v1/runs/{run_id}/cancel"))
    _, page = await caller.ask(get(served, f"/v1/runs/{run_id}/events?limit=200"))
    caller.close()
    return int(json.loads(page)["items"][-1]["seq"])
