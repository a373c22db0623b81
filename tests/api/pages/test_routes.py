"""What the server says of the pages: their policy, their caching, and that no path of a request reaches the disk."""

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from xpo_ray.api import problems
from xpo_ray.api.pages.assets import assets
from xpo_ray.api.pages.routes import router


@pytest.fixture(scope="module")
def pages() -> TestClient:
    app = FastAPI()
    app.include_router(router)
    problems.install(app)
    return TestClient(app)


@pytest.mark.parametrize("path", ["/", "/login", "/runs/run_1", "/datasets", "/keys"])
def test_every_page_is_the_one_document_under_a_policy_without_anything_inline(pages: TestClient, path: str) -> None:
    answer = pages.get(path)
    policy = answer.headers["content-security-policy"]
    assert answer.status_code == 200
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-cache"
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", answer.text)


def test_scripts_are_kept_for_ever_under_the_version_of_their_contents_and_only_there(pages: TestClient) -> None:
    version = assets().version
    assert f"/static/{version}/main.js" in pages.get("/").text
    kept = pages.get(f"/static/{version}/main.js")
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert kept.headers["content-type"] == "text/javascript; charset=utf-8"
    other = pages.get("/static/000000000000/main.js")
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")
    assert other.content == kept.content


@pytest.mark.parametrize(
    "name", ["page.html", "nothing.js", "../routes.py", "..%2froutes.py", "run", "run/", "/etc/passwd"]
)
def test_what_is_not_listed_is_not_there(pages: TestClient, name: str) -> None:
    assert pages.get(f"/static/{assets().version}/{name}").status_code == 404


def test_every_file_that_a_script_imports_is_served_and_nothing_is_fetched_from_elsewhere() -> None:
    files = assets().files
    for name, content in files.items():
        text = content.decode()
        folder = name.rpartition("/")[0]
        for target in re.findall(r'from "([^"]+)"', text):
            inside = re.sub(r"^(\./|\.\./)", "", target)
            in_folder = f"{folder}/{inside}" if folder and not target.startswith("../") else inside
            assert in_folder in files, f"{name} imports {target}"
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []


def test_no_script_turns_text_into_markup_or_code() -> None:
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|\beval\b|new Function"
    keeps = r"localStorage|sessionStorage|indexedDB|document\.cookie"
    for name, content in assets().files.items():
        assert re.findall(rf"{ways}|{keeps}", content.decode()) == [], name
