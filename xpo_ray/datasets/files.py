"""Which files a dataset's path names, and of what kind they are. Loads no library of datasets and reads no rows.

The reader walks these files, the plan counts their rows, and the service hashes and uploads them.
"""

import difflib
import glob
import json
from pathlib import Path

from xpo_ray.errors import DatasetError

KINDS = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".arrow": "arrow",
}
PACKED = (".gz", ".zst", ".bz2")
"""Behind the extension of a text file: it is decompressed while it is read."""
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval", "evaluation"), "validation"),
}
"""The split that the first word of a file's name stands for."""


def data_files(path: str | tuple[str, ...]) -> list[Path]:
    """The files that a path names: entries in their order, a folder's or glob's files sorted, each file once.

    A folder stands for the files directly in it, which must be of one kind and one split, or for the dataset that
    `Dataset.save_to_disk` wrote there. Raises DatasetError.
    """
    entries = (path,) if isinstance(path, str) else path
    files = list(dict.fromkeys(file for entry in entries for file in _expand(entry)))
    if not files:
        raise DatasetError("data.source.path is an empty list; name a file, a folder or a glob")
    return files


def kind_of(file: Path) -> str:
    """parquet, arrow, json or csv, by the file's extension. Raises DatasetError."""
    kind = _kind(file)
    if kind is None:
        raise DatasetError(
            f"{file}: unknown extension {file.suffix!r}; known are {', '.join(KINDS)}, text files also with "
            f"{', '.join(PACKED)} behind it (decompress or convert the file)"
        )
    return kind


def saved_splits(folder: Path) -> list[str]:
    """The splits of a `DatasetDict` that was saved into a folder; none where there is no such dataset."""
    file = folder / "dataset_dict.json"
    return [Path(str(split)).name for split in _listed(file, "splits")] if file.is_file() else []


def _kind(file: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in file.suffixes[-2:]]
    packed = bool(suffixes) and suffixes[-1] in PACKED
    kind = KINDS.get((suffixes[:-1] if packed else suffixes or [""])[-1]) if suffixes[packed:] else None
    return None if packed and kind in ("parquet", "arrow") else kind


def _expand(entry: str) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        files = [path]
    elif glob.has_magic(entry):
        files = sorted(p for p in map(Path, glob.glob(entry, recursive=True)) if p.is_file())
        if not files:
            raise DatasetError(f"{entry}: no file matches this glob")
    else:
        raise DatasetError(f"{entry}: no such file or folder{_nearest(path)}")
    for file in files:
        kind_of(file)
    return files


def _folder(folder: Path) -> list[Path]:
    if (folder / "dataset_dict.json").is_file():
        return _saved(folder / _only_split(folder))
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return _saved(folder)
    files = sorted(f for f in folder.iterdir() if f.is_file() and _kind(f) is not None)
    if not files:
        raise DatasetError(
            f"{folder}: no {', '.join(KINDS)} file directly in this folder; for sub-folders give a glob such as "
            f"{folder}/**/*.parquet"
        )
    kinds = {_kind(f): "".join(f.suffixes[-2:] if f.suffix.lower() in PACKED else f.suffixes[-1:]) for f in files}
    if len(kinds) > 1:
        suffixes = sorted(kinds.values())
        raise DatasetError(
            f"{folder}: holds files of several kinds ({', '.join(suffixes)}), and one may be no data; "
            f"say which with a glob such as {folder}/*{suffixes[0]}"
        )
    _check_one_split(folder, files)
    return files


def _check_one_split(folder: Path, files: list[Path]) -> None:
    """Refuse a folder whose file names say train and test: both would be trained on."""
    first: dict[str, Path] = {}
    for file in files:
        word = file.name.replace("-", ".").replace("_", ".").split(".")[0]
        if word.lower() in SPLITS:
            first.setdefault(SPLITS[word.lower()], file)
    if len(first) > 1:
        named = next(iter(first.values())).name
        word = named.replace("-", ".").replace("_", ".").split(".")[0]
        raise DatasetError(
            f"{folder}: holds files of several splits ({', '.join(f.name for f in first.values())}), which would be read as "
            f"one; say which with a glob such as {folder}/{word}*"
        )


def _only_split(folder: Path) -> str:
    splits = saved_splits(folder)
    if len(splits) == 1:
        return splits[0]
    if not splits:
        raise DatasetError(f"{folder / 'dataset_dict.json'}: names no splits; save the dataset anew")
    raise DatasetError(
        f"{folder}: a DatasetDict with the splits {', '.join(splits)}; say which, such as path: {folder / splits[0]}"
    )


def _saved(folder: Path) -> list[Path]:
    """The Arrow files of what `Dataset.save_to_disk` wrote, in the order of its rows."""
    state = folder / "state.json"
    names = [item.get("filename") if isinstance(item, dict) else None for item in _listed(state, "_data_files")]
    files = [folder / Path(name).name for name in names if isinstance(name, str)]
    missing = next((file for file in files if not file.is_file()), None)
    if not files or len(files) < len(names) or missing is not None:
        raise DatasetError(
            f"{missing or state}: missing or damaged; copy the whole folder of save_to_disk, or save it anew"
        )
    return files


def _listed(file: Path, key: str) -> list[object]:
    """A list in a JSON file; empty where it is not there."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: cannot be read: {error}; copy the whole folder of save_to_disk") from error
    value = content.get(key) if isinstance(content, dict) else None
    return value if isinstance(value, list) else []


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f"; did you mean {near[0]}?" if near else ""
