"""Content hashes of models, for the identity of a run."""

import hashlib

from xpo_ray.model_files import model_folder, weight_files

WHOLE_FILE_BYTES = 1 << 28
EDGE_BYTES = 1 << 20


def model_fingerprint(path: str) -> str:
    """sha256 over a model's config and weights; of large files the header, the ends and the size. A hub repository's name."""
    folder = model_folder(path)
    if folder is None:
        return f"hub:{path}"
    sha = hashlib.sha256((folder / "config.json").read_bytes())
    for file in weight_files(folder):
        size = file.stat().st_size
        sha.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            if size <= WHOLE_FILE_BYTES:
                sha.update(hashlib.file_digest(stream, "sha256").digest())
            else:
                sha.update(stream.read(EDGE_BYTES))
                stream.seek(size - EDGE_BYTES)
                sha.update(stream.read(EDGE_BYTES))
    return sha.hexdigest()
