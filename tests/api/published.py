"""A checkpoint as a driver publishes it, made of random bytes: for tests of downloads, which need no model."""

import random
from pathlib import Path

from xpo_ray.storage import Checkpoint, LocalStorage, replace_file, to_json


def publish(root: Path, iteration: int, size: int = 1000, attempt: int = 1) -> dict[str, bytes]:
    """Publish the checkpoint that ends an iteration of a run; returns the files of its model."""
    storage = LocalStorage(root, attempt)
    adopted = storage.attempt_folder / "adopted.json"
    if not adopted.exists():
        replace_file(adopted, to_json({"commits": [], "checkpoints": []}))
    draw = random.Random(iteration)
    files = {"config.json": b"{}", "model.safetensors": draw.randbytes(size), "tokenizer/vocab.txt": draw.randbytes(50)}

    def write(folder: Path) -> None:
        for name, content in {**{f"model/{n}": c for n, c in files.items()}, "trainer/optimizer.bin": b"x"}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    name = f"iteration-{iteration:04d}"
    storage.publish_checkpoint(write, Checkpoint(name, "", iteration, 0, 3 * iteration, None, 0.0, (), {}))
    return files
