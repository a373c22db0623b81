"""What stands between a client and the service on a bad day: it refuses, cuts answers off, and notes what came through."""

from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Front:
    """Before the app. What it does to requests is set by the test, and done once for each entry."""

    app: ASGIApp | None = None
    seen: list[Seen] = field(default_factory=list)
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the next answers: the app does not see these requests."""
    cuts: list[int] = field(default_factory=list)
    """Bytes of the next bodies after which the connection breaks."""

    def before(self, app: ASGIApp) -> ASGIApp:
        """Stand there."""
        self.app = app
        return self

    def asked(self, end: str) -> list[Seen]:
        """The requests whose path ends so."""
        return [each for each in self.seen if each.path.endswith(end)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append(Seen(scope["method"], scope["path"], headers))
        if self.refusals:
            status, said = self.refusals.pop(0)
            pairs = [(name.encode(), value.encode()) for name, value in said.items()]
            await send({"type": "http.response.start", "status": status, "headers": pairs})
            return await send({"type": "http.response.body", "body": b"not now"})
        return await self.app(scope, receive, _cutting(send, self.cuts.pop(0)) if self.cuts else send)


def _cutting(send: Send, left: int) -> Send:
    async def sending(message: Message) -> None:
        nonlocal left
        body = message.get("body", b"")
        if len(body) < left or message["type"] != "http.response.body":
            left -= len(body)
            return await send(message)
        await send({**message, "body": body[:left], "more_body": True})
        raise ConnectionResetError("cut off by the test")

    return sending
