"""`python -m xpo_ray.demo.make FOLDER`: the demo's base model and data in a folder, where they are not there yet.

`make serve` calls it, so that recipes/tiny-selm.yaml has something to run on. Nothing is downloaded.
"""

import sys
from pathlib import Path

from xpo_ray.demo.base_model import train_base
from xpo_ray.demo.world import write_world


def make_world(folder: Path) -> bool:
    """Write train.parquet, test.parquet and base/; says whether there was anything to do. The model comes last, whole."""
    if (folder / "base" / "config.json").exists():
        return False
    print(f"a small model is trained first, into {folder / 'base'}: half a minute on two idle cores, once", flush=True)
    world = write_world(folder)
    train_base(folder, world, progress=_tell)
    return True


def _tell(done: int, total: int) -> None:
    if done % 50 == 0 or done == total:
        print(f"a small base model is trained: step {done} of {total}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m xpo_ray.demo.make FOLDER")
    make_world(Path(sys.argv[1]))
