"""Routes of the pages: one document at every address that people visit, and its scripts and styles.

Public, because they tell nothing: what a page shows it fetches by the REST calls, with the session cookie of its visitor.
"""

from fastapi import APIRouter, Response

from xpo_ray.api.auth import public
from xpo_ray.api.pages.assets import TYPES, assets
from xpo_ray.api.problems import not_found

router = APIRouter(include_in_schema=False)
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)
"""Nothing but our own files runs, not even a style attribute: whatever a model writes stays text."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
FOR_EVER = "public, max-age=31536000, immutable"


@router.get("/", dependencies=[public()])
@router.get("/login", dependencies=[public()])
@router.get("/runs/{run_id}", dependencies=[public()])
@router.get("/datasets", dependencies=[public()])
@router.get("/keys", dependencies=[public()])
def page() -> Response:
    """The document; its script looks at the address and shows the page that belongs there."""
    return Response(assets().document, media_type=TYPES[".html"], headers={**HEADERS, "Cache-Control": "no-cache"})


@router.get("/static/{version}/{name:path}", dependencies=[public()])
def asset(version: str, name: str) -> Response:
    """A script or a style. Under another version than ours it is answered all the same, but not kept: a page that was
    loaded before an update goes on."""
    held = assets()
    content = held.files.get(name)
    if content is None:
        raise not_found("asset", name)
    keep = FOR_EVER if version == held.version else "no-cache"
    return Response(content, media_type=held.media_type(name), headers={**HEADERS, "Cache-Control": keep})
