"""Opening files: compression by content, encodings by their mark, and what is no text by its name."""

import bz2
import codecs
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from tests.xpo_ray.test_datasets import read
from xpo_ray.datasets.reading import count_rows
from xpo_ray.errors import DatasetError

PAIR = {"prompt": "Wie groß?", "chosen": "Groß.", "rejected": "Nein."}
LINES = "".join(json.dumps(PAIR, ensure_ascii=False) + "\n" for _ in range(3))


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl.gz", gzip.compress(LINES.encode())),
        ("a.jsonl.gz", gzip.compress(LINES[:20].encode()) + gzip.compress(LINES[20:].encode())),
        ("a.jsonl.zst", zstd(LINES.encode())),
        ("a.jsonl.zst", zstd(LINES[:50].encode()) + zstd(LINES[50:].encode())),
        ("a.json.bz2", bz2.compress(LINES.encode())),
        ("a.JSONL", gzip.compress(LINES.encode())),
        ("a.json.zst", zstd(json.dumps([PAIR] * 3).encode())),
        ("a.csv.gz", gzip.compress(("prompt;chosen;rejected\n" + "Wie groß?;Groß.;Nein.\n" * 3).encode())),
        ("a.jsonl", LINES.encode("utf-8-sig")),
        ("a.jsonl", LINES.encode("utf-16")),
        ("a.jsonl", codecs.BOM_UTF16_BE + LINES.encode("utf-16-be")),
        ("a.json", json.dumps([PAIR] * 3, ensure_ascii=False).encode("utf-16")),
        ("a.csv", ("prompt\tchosen\trejected\r\n" + "Wie groß?\tGroß.\tNein.\r\n" * 3).encode("utf-16")),
    ],
)
def test_compressed_and_marked_files_are_read_as_plain_ones(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    examples = read(tmp_path / name)
    assert [(e.prompt[0]["content"], e.chosen, e.rejected) for e in examples] == [tuple(PAIR.values())] * 3
    assert count_rows(tmp_path / name) == 3
    assert len(read(tmp_path)) == 3, "a folder knows them too"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
        ("a.json", b"\n<!DOCTYPE html><html>", "a web page and not the file behind it"),
        ("a.csv", b"PK\x03\x04rest", "a zip archive or an Excel file"),
        ("a.jsonl", b"PAR1rest", "Parquet by its content; call it .parquet"),
        ("a.jsonl", LINES.encode("utf-16-le"), "UTF-16 without a mark at its beginning"),
        ("a.jsonl", LINES.encode("cp1252"), "line 1 is not UTF-8"),
        ("a.json", json.dumps([PAIR], ensure_ascii=False).encode("cp1252"), "iconv -f WINDOWS-1252 -t UTF-8"),
        ("a.csv", ("prompt,chosen\n" + "a,b\n" * 5000 + "c,ß\n").encode("cp1252"), "line 5002 is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(LINES.encode())[:-12], "cannot be read"),
        ("a.jsonl.zst", zstd(LINES.encode())[:-6], "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused_by_what_it_is(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read(tmp_path / name, needs_pairs=False)
    assert str(tmp_path / name) in str(caught.value)
    assert words in str(caught.value)
