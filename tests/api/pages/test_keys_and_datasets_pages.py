"""Keys and datasets in a real Chromium: a secret that is shown once, an upload with its report, hostile rows."""

import json
from pathlib import Path

import pytest

from tests.api.conftest import MakeKey
from tests.api.pages.conftest import Visits
from tests.api.pages.rows import HOSTILE
from xpo_ray.api.services import Services

pytestmark = pytest.mark.browser


def test_a_new_key_is_shown_once_works_and_can_be_revoked(visit: Visits) -> None:
    window = visit("/keys")
    window.page.get_by_label("Name").fill("laptop")
    window.page.get_by_label("submit").check()
    window.page.get_by_label("Expires in days").fill("30")
    window.page.get_by_role("button", name="Create key").click()
    secret = window.find("#secret").inner_text()
    bearer = {"Authorization": f"Bearer {secret}"}
    own = f"{window.url}/v1/keys/self"
    made = window.page.context.request.get(own, headers=bearer).json()
    assert (made["name"], set(made["scopes"])) == ("laptop", {"read", "submit"})
    window.page.get_by_role("button", name="Done").click()
    window.page.reload()
    window.sees("laptop", "tbody tr")
    assert secret not in window.run("document.documentElement.outerHTML")
    window.page.get_by_role("button", name="Revoke laptop").click()
    window.page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    window.sees("revoked", "tbody tr")
    assert window.page.context.request.get(own, headers=bearer).status == 401


def test_a_hostile_key_name_is_text(visit: Visits, make_headers: MakeKey) -> None:
    make_headers("read", name=HOSTILE[:64])
    window = visit("/keys")
    window.sees("<img src=x", "tbody tr")
    assert window.unharmed()


def test_keys_are_for_admins(visit: Visits) -> None:
    window = visit("/keys", scopes=("submit",))
    window.sees("Keys are for admins.", ".empty")
    assert window.find("table.keys, form").count() == 0


def test_an_uploaded_dataset_is_reported_and_looked_into_as_text(visit: Visits, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    row = {"prompt": f"question {HOSTILE}", "chosen": f"good {HOSTILE}", "rejected": "bad"}
    path.write_text("".join(f"{json.dumps(row)}\n" for _ in range(7)))
    window = visit("/datasets")
    window.sees("No dataset yet.", ".empty")
    window.page.get_by_label("Name").fill("pairs")
    window.page.get_by_label("Files").set_input_files(path)
    window.page.get_by_role("button", name="Upload").click()
    window.sees("7 rows", ".dataset")
    assert window.find(".dataset tbody tr").count() == 3
    window.page.get_by_text("First rows").click()
    window.sees("U+202E", ".answer")
    assert window.unharmed()
    window.page.get_by_role("button", name="Delete pairs").click()
    window.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    window.sees("No dataset yet.", ".empty")


def test_a_file_that_cannot_be_read_is_refused_with_the_services_words(
    visit: Visits, services: Services, tmp_path: Path
) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"prompt": "a"}\nnot json\n')
    window = visit("/datasets")
    window.page.get_by_label("Name").fill("broken")
    window.page.get_by_label("Files").set_input_files(path)
    window.page.get_by_role("button", name="Upload").click()
    window.sees("broken.jsonl", ".trouble")
    assert not any((services.storage / "datasets").glob("ds_*/*.jsonl"))
