"""Webhooks over REST. A webhook belongs to the key that made it; others do not see it."""

from fastapi import APIRouter, Response

from xpo_ray.api.auth import Principal, allow
from xpo_ray.api.database.tables import Webhook
from xpo_ray.api.hosts import check_url
from xpo_ray.api.ids import new_id
from xpo_ray.api.keys.secret import new_secret
from xpo_ray.api.paging import After, Limit, pack, page_of
from xpo_ray.api.services import TheServices
from xpo_ray.api.webhooks import store
from xpo_ray.api.webhooks.sending import send
from xpo_ray.wire.base import Page
from xpo_ray.wire.webhooks import MadeWebhook, NewWebhook, Tried, WebhookView

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


@router.post("", status_code=201)
def make_webhook(asked: NewWebhook, services: TheServices, caller: Principal = allow("submit")) -> MadeWebhook:
    """Be told of runs. The host must be on the operator's list; the secret is shown this once."""
    check_url(services.settings, asked.url)
    row = Webhook(
        id=new_id("hook"),
        owner=caller.key_id,
        url=asked.url,
        secret=new_secret("whsec_"),
        triggers=sorted(set(asked.triggers)),
        all_runs=asked.all_runs,
        failures=0,
        disabled_at=None,
        created_at=services.clock(),
    )
    with services.database.write() as session:
        session.add(row)
    return MadeWebhook(**store.shown(row), secret=row.secret)


@router.get("")
def list_webhooks(
    services: TheServices, limit: Limit = 50, after: After = None, caller: Principal = allow("submit")
) -> Page[WebhookView]:
    """The key's webhooks, newest first; an admin sees all."""
    with services.database.read() as session:
        views = [store.view(row) for row in store.list_webhooks(session, caller, after, limit + 1)]
    return page_of(views, limit, lambda v: pack(v.created_at.isoformat(), v.id))


@router.delete("/{webhook_id}", status_code=204)
def delete_webhook(webhook_id: str, services: TheServices, caller: Principal = allow("submit")) -> Response:
    """Be told no more; what is still to be delivered is dropped."""
    with services.database.write() as session:
        session.delete(store.own_webhook(session, caller, webhook_id))
    return Response(status_code=204)


@router.post("/{webhook_id}/test")
def try_webhook(webhook_id: str, services: TheServices, caller: Principal = allow("submit")) -> Tried:
    """Send a message of type `test` now. A webhook that was disabled is enabled again where the receiver takes it."""
    with services.database.read() as session:
        row = store.own_webhook(session, caller, webhook_id)
    now = services.clock()
    message = {"id": new_id("dlv"), "type": "test", "run": None, "at": now.isoformat()}
    outcome = send(services.settings, row.url, row.secret, message, now)
    if outcome.error is None:
        with services.database.write() as session:
            found = store.own_webhook(session, caller, webhook_id)
            found.failures, found.disabled_at = 0, None
    return Tried(delivered=outcome.error is None, status=outcome.status, error=outcome.error)
