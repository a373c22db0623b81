"""Downloads as lists of replies: gone on with after a break, checked, and never a file outside the folder."""

import hashlib
from pathlib import Path

import pytest

from xpo_ray.client.downloads import Download, Fetch, fetch, inside
from xpo_ray.client.faults import DownloadDamaged
from xpo_ray.client.talk import Broken, Reply, Wait, advance
from xpo_ray.errors import UserError
from xpo_ray.wire.artifacts import FileView

TEXT = b"0123456789"


def download(folder: Path) -> Download:
    digest = hashlib.sha256(TEXT).hexdigest()
    return Download("run_1", "ckpt_1", FileView(id="file_1", name="sub/a.bin", size=len(TEXT), sha256=digest), folder)


def answer(wanted: Download, status: int, content: bytes) -> Reply:
    with wanted.part_file(status) as part:
        part.write(content)
    return Reply(status, {}, b"")


def test_a_broken_download_goes_on_where_it_stopped_and_shows_no_half_file(tmp_path: Path) -> None:
    wanted = download(tmp_path)
    talk = fetch(wanted)
    first = advance(talk, None)
    assert isinstance(first, Fetch)
    assert "Range" not in first.request.headers
    answer(wanted, 200, TEXT[:4])
    assert isinstance(advance(talk, Broken("reset")), Wait)
    assert not wanted.target.exists()
    second = advance(talk, None)
    assert isinstance(second, Fetch)
    assert second.request.headers["Range"] == "bytes=4-"
    assert advance(talk, answer(wanted, 206, TEXT[4:])) is None
    assert wanted.target.read_bytes() == TEXT
    assert [p.name for p in wanted.target.parent.iterdir()] == ["a.bin"]
    assert advance(fetch(download(tmp_path)), None) is None


def test_what_is_not_as_announced_is_thrown_away(tmp_path: Path) -> None:
    wanted = download(tmp_path)
    talk = fetch(wanted)
    advance(talk, None)
    with pytest.raises(DownloadDamaged, match="sha256"):
        advance(talk, answer(wanted, 200, b"x" * len(TEXT)))
    assert list(wanted.target.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", "", "."])
def test_a_name_outside_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="outside"):
        inside(tmp_path, name)
