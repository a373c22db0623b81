"""Keys over REST: an admin makes, lists and revokes them; everybody may look at the own one."""

from fastapi import APIRouter, Response

from xpo_ray.api.auth import Principal, allow
from xpo_ray.api.database.tables import Key
from xpo_ray.api.keys import store
from xpo_ray.api.paging import After, Limit, page_of
from xpo_ray.api.problems import Refusal, not_found
from xpo_ray.api.services import TheServices
from xpo_ray.wire.base import Page
from xpo_ray.wire.keys import KeyView, MadeKey, NewKey

router = APIRouter(prefix="/keys", tags=["keys"])


@router.post("", status_code=201)
def create_key(asked: NewKey, services: TheServices, _caller: Principal = allow("admin")) -> MadeKey:
    """Make a key. Its secret is in this answer and nowhere else."""
    with services.database.write() as session:
        return store.make_key(session, asked, services.clock())


@router.get("")
def list_keys(
    services: TheServices,
    limit: Limit = 50,
    after: After = None,
    _caller: Principal = allow("admin"),
) -> Page[KeyView]:
    """All keys, newest first, revoked ones too."""
    with services.database.read() as session:
        return page_of([store.view(k) for k in store.list_keys(session, after, limit + 1)], limit, store.cursor)


@router.get("/self")
def own_key(services: TheServices, caller: Principal = allow("any")) -> KeyView:
    """The key of this request."""
    with services.database.read() as session:
        key = session.get(Key, caller.key_id)
        assert key is not None
        return store.view(key)


@router.delete("/{key_id}", status_code=204)
def revoke_key(key_id: str, services: TheServices, caller: Principal = allow("admin")) -> Response:
    """Revoke a key: it is refused from now on. Runs of its owner go on."""
    if key_id == caller.key_id:
        raise Refusal(409, "own_key", "this request was made with that key; revoke it with another admin key")
    with services.database.write() as session:
        key = session.get(Key, key_id)
        if key is None:
            raise not_found("key", key_id)
        store.revoke(key, services.clock())
    services.callers.forget()
    return Response(status_code=204)
