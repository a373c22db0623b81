"""The jobs of a cluster without a cluster: the part of Ray's REST interface that the service uses, in a thread, by hand."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CLUSTER = {"loadMetricsReport": {"usage": {"CPU": [0.0, 2.0], "memory": [0.0, 2.0**34]}}}


@dataclass
class RayLike:
    """Jobs by submission id, and how often they were asked for."""

    address: str = ""
    jobs: dict[str, str] = field(default_factory=dict)
    looks: int = 0

    def answer(self, method: str, path: str, body: Any) -> Any:
        if method == "GET" and path == "/api/jobs/":
            self.looks += 1
            return [{"submission_id": job, "status": status} for job, status in self.jobs.items()]
        if method == "POST" and path == "/api/jobs/":
            self.jobs[body["submission_id"]] = "PENDING"
            return {}
        if path == "/api/cluster_status":
            return {"data": {"clusterStatus": CLUSTER}}
        if path.endswith("/logs"):
            return {"logs": ""}
        if method == "DELETE":
            assert self.jobs.pop(path.split("/")[3]) in ("STOPPED", "SUCCEEDED", "FAILED")
        if path.endswith("/stop"):
            self.jobs[path.split("/")[3]] = "STOPPED"
        return {}


@contextmanager
def raylike() -> Iterator[RayLike]:
    """One that answers."""
    ray = RayLike()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = json.dumps(ray.answer(self.command, self.path, json.loads(content or b"null"))).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        ray.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield ray
        finally:
            server.shutdown()
            thread.join()
