"""The questions of the demo on a real model, written for it: train.jsonl has two answers to each, test.jsonl has none.

Of the two, one is cheerful and one is gloomy; both are honest answers. No question stands in both files.
"""

import shutil
from pathlib import Path

HERE = Path(__file__).parent
FILES = ("train.jsonl", "test.jsonl")


def write_questions(folder: Path) -> tuple[int, int]:
    """Copy both files into a folder; returns how many questions are trained on and how many are held out."""
    for name in FILES:
        shutil.copyfile(HERE / name, folder / name)
    train, held_out = (len((HERE / name).read_text(encoding="utf-8").splitlines()) for name in FILES)
    return train, held_out
