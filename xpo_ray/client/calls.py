"""Every call of the service as a pure function: arguments in, a Call out. One function for each route.

A POST that the service does once per Idempotency-Key may be sent again; no other POST or PATCH is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from xpo_ray.client.talk import Call, Reply, Request, once, part
from xpo_ray.run_states import Command, Status
from xpo_ray.wire.artifacts import CheckpointView, IterationView, SampleView
from xpo_ray.wire.base import Page
from xpo_ray.wire.cluster import ClusterAnswer
from xpo_ray.wire.data import DatasetPreview, DatasetView, ModelView, NewDataset, NewModel
from xpo_ray.wire.events import EventView, Metrics
from xpo_ray.wire.keys import KeyView, MadeKey, NewKey
from xpo_ray.wire.runs import AttemptView, Edit, Fork, RunView, Submission, Validated
from xpo_ray.wire.webhooks import MadeWebhook, NewWebhook, Tried, WebhookView

T = TypeVar("T")
JSON = {"Content-Type": "application/json"}


def submit(submission: Submission) -> Call[RunView]:
    return _post("/v1/runs", RunView, submission, once())


def validate(submission: Submission) -> Call[Validated]:
    return _post("/v1/runs/validate", Validated, submission)


def list_runs(
    after: str | None = None,
    limit: int = 50,
    status: Sequence[Status] = (),
    metadata: Mapping[str, str] | None = None,
    owner: str | None = None,
) -> Call[Page[RunView]]:
    filters = [("status", s) for s in status] + [("metadata", f"{k}:{v}") for k, v in (metadata or {}).items()]
    return _get("/v1/runs", Page[RunView], *filters, owner=owner, after=after, limit=limit)


def get_run(run_id: str) -> Call[RunView]:
    return _get(f"/v1/runs/{part(run_id)}", RunView)


def edit_run(run_id: str, edit: Edit, version: int) -> Call[RunView]:
    body = edit.model_dump_json(exclude_unset=True).encode()
    headers = {**JSON, "If-Match": f'"{version}"'}
    return Call(Request("PATCH", f"/v1/runs/{part(run_id)}", headers=headers, body=body), _reader(RunView), False)


def command_run(run_id: str, command: Command) -> Call[RunView]:
    """What has been obeyed already is answered in the same way, so that it may be sent again."""
    return Call(Request("POST", f"/v1/runs/{part(run_id)}/{command}"), _reader(RunView), True)


def fork_run(run_id: str, fork: Fork) -> Call[RunView]:
    return _post(f"/v1/runs/{part(run_id)}/fork", RunView, fork, once())


def delete_run(run_id: str) -> Call[None]:
    return _delete(f"/v1/runs/{part(run_id)}")


def run_attempts(run_id: str) -> Call[list[AttemptView]]:
    return _get(f"/v1/runs/{part(run_id)}/attempts", list[AttemptView])


def run_events(run_id: str, after: str | None = None, limit: int = 200) -> Call[Page[EventView]]:
    return _get(f"/v1/runs/{part(run_id)}/events", Page[EventView], after=after, limit=limit)


def newest_events(run_id: str, limit: int = 200) -> Call[Page[EventView]]:
    """The last ones, in order; the page's `next` goes on behind them."""
    return _get(f"/v1/runs/{part(run_id)}/events", Page[EventView], ("newest", "true"), limit=limit)


def run_metrics(run_id: str) -> Call[Metrics]:
    return _get(f"/v1/runs/{part(run_id)}/metrics", Metrics)


def run_iterations(run_id: str) -> Call[list[IterationView]]:
    return _get(f"/v1/runs/{part(run_id)}/iterations", list[IterationView])


def run_samples(
    run_id: str, after: str | None = None, limit: int = 50, iteration: int | None = None, kind: str = "held_out"
) -> Call[Page[SampleView]]:
    path = f"/v1/runs/{part(run_id)}/samples"
    return _get(path, Page[SampleView], ("kind", kind), after=after, limit=limit, iteration=iteration)


def run_checkpoints(run_id: str) -> Call[list[CheckpointView]]:
    return _get(f"/v1/runs/{part(run_id)}/checkpoints", list[CheckpointView])


def run_report(run_id: str) -> Call[str]:
    return Call(Request("GET", f"/v1/runs/{part(run_id)}/report"), lambda reply: reply.body.decode(), True)


def run_logs(run_id: str, after: int = 0, limit: int = 65536, attempt: int | None = None) -> Call[tuple[str, int]]:
    """The text, and the `after` of the next part."""
    request = Request("GET", f"/v1/runs/{part(run_id)}/logs", _query(after=after, limit=limit, attempt=attempt))
    return Call(request, lambda r: (r.body.decode(errors="replace"), int(r.headers["x-next-offset"])), True)


def upload_dataset(name: str, paths: Sequence[Path]) -> Call[DatasetView]:
    """The driver opens the files when it sends them. A used-up quota does not come back by sending them again."""
    files = tuple(("file", path) for path in paths)
    request = Request("POST", "/v1/datasets", headers=once(), form={"name": name}, files=files)
    return Call(request, _reader(DatasetView), True, lasting=frozenset({429}))


def register_dataset(dataset: NewDataset) -> Call[DatasetView]:
    return _post("/v1/datasets/register", DatasetView, dataset, once())


def list_datasets(after: str | None = None, limit: int = 50) -> Call[Page[DatasetView]]:
    return _get("/v1/datasets", Page[DatasetView], after=after, limit=limit)


def get_dataset(dataset_id: str) -> Call[DatasetView]:
    return _get(f"/v1/datasets/{part(dataset_id)}", DatasetView)


def preview_dataset(dataset_id: str, limit: int = 10) -> Call[DatasetPreview]:
    return _get(f"/v1/datasets/{part(dataset_id)}/preview", DatasetPreview, limit=limit)


def delete_dataset(dataset_id: str) -> Call[None]:
    return _delete(f"/v1/datasets/{part(dataset_id)}")


def register_model(model: NewModel) -> Call[ModelView]:
    return _post("/v1/models", ModelView, model, once())


def list_models(after: str | None = None, limit: int = 50) -> Call[Page[ModelView]]:
    return _get("/v1/models", Page[ModelView], after=after, limit=limit)


def get_model(model_id: str) -> Call[ModelView]:
    return _get(f"/v1/models/{part(model_id)}", ModelView)


def delete_model(model_id: str) -> Call[None]:
    return _delete(f"/v1/models/{part(model_id)}")


def create_key(key: NewKey) -> Call[MadeKey]:
    return _post("/v1/keys", MadeKey, key)


def list_keys(after: str | None = None, limit: int = 50) -> Call[Page[KeyView]]:
    return _get("/v1/keys", Page[KeyView], after=after, limit=limit)


def own_key() -> Call[KeyView]:
    return _get("/v1/keys/self", KeyView)


def revoke_key(key_id: str) -> Call[None]:
    return _delete(f"/v1/keys/{part(key_id)}")


def create_webhook(webhook: NewWebhook) -> Call[MadeWebhook]:
    return _post("/v1/webhooks", MadeWebhook, webhook)


def list_webhooks(after: str | None = None, limit: int = 50) -> Call[Page[WebhookView]]:
    return _get("/v1/webhooks", Page[WebhookView], after=after, limit=limit)


def delete_webhook(webhook_id: str) -> Call[None]:
    return _delete(f"/v1/webhooks/{part(webhook_id)}")


def try_webhook(webhook_id: str) -> Call[Tried]:
    return Call(Request("POST", f"/v1/webhooks/{part(webhook_id)}/test"), _reader(Tried), False)


def cluster() -> Call[ClusterAnswer]:
    return _get("/v1/cluster", ClusterAnswer)


def _get(path: str, kind: type[T], *more: tuple[str, str], **query: Any) -> Call[T]:
    return Call(Request("GET", path, (*more, *_query(**query))), _reader(kind), True)


def _post(
    path: str, kind: type[T], body: BaseModel | None = None, idempotency: Mapping[str, str] | None = None
) -> Call[T]:
    content = None if body is None else body.model_dump_json(exclude_unset=True).encode()
    headers = {**(JSON if content else {}), **(idempotency or {})}
    return Call(Request("POST", path, headers=headers, body=content), _reader(kind), idempotency is not None)


def _delete(path: str) -> Call[None]:
    return Call(Request("DELETE", path), lambda _reply: None, True)


def _query(**values: Any) -> tuple[tuple[str, str], ...]:
    return tuple((name, str(value)) for name, value in values.items() if value is not None)


def _reader(kind: type[T]) -> Any:
    adapter: TypeAdapter[T] = TypeAdapter(kind)

    def read(reply: Reply) -> T:
        return adapter.validate_json(reply.body)

    return read
