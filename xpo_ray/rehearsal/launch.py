"""Has a model rehearsed in a process of its own, or takes the verdict that was kept of it. Imports no torch.

`xpo-ray validate --deep` and the preparation of a run call `rehearse`; the service's API never does, an attempt's driver does.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

from xpo_ray.algorithms import rows
from xpo_ray.errors import ModelError
from xpo_ray.kept_verdicts import KeptVerdicts
from xpo_ray.model_files import downloaded_folder, stored_tensors
from xpo_ray.plan.shapes import has_weights
from xpo_ray.rehearsal.request import Request, Verdict
from xpo_ray.spec.run import RunSpec

OFF = "XPO_RAY_NO_REHEARSAL"
"""A variable that leaves rehearsals out where it is set."""
LIMIT_S = 180.0
PACKAGE = Path(__file__).resolve().parent.parent
APART = ("actors", "api", "cli", "report", "client", "courier", "exports", "demo", "wire")
"""Rooms of which no rehearsal depends."""
CONFIGS = ("config.json", "generation_config.json", "tokenizer_config.json")


def check_rehearsal(spec: RunSpec, verdicts: KeptVerdicts) -> dict[str, str]:
    """Raises ModelError where a rehearsal shows that the run cannot work; returns what is to be warned of."""
    if os.environ.get(OFF):
        return {}
    verdict = rehearse(spec, verdicts)
    if verdict.outcome == "refused":
        raise ModelError(f"model.path {spec.model.path}: {verdict.reason}")
    if verdict.outcome == "not_rehearsed":
        told = f"model.path {spec.model.path}: the model was not rehearsed, because {verdict.reason}"
        return {"not_rehearsed": f"{told}; the run shows whether it works"}
    return {}


def rehearse(spec: RunSpec, verdicts: KeptVerdicts, limit_s: float = LIMIT_S) -> Verdict:
    """The verdict on a spec's model. What is not known is asked for again the next time."""
    key = key_of(spec)
    if (kept := verdicts.find(key)) is not None and (verdict := Verdict.of_json(kept)) is not None:
        return verdict
    with tempfile.TemporaryDirectory(prefix="xpo-ray-rehearsal-") as scratch:
        verdict = _asked(Request(spec, scratch), limit_s)
    if verdict.outcome != "not_rehearsed" or not verdict.reason.startswith(PASSING):
        verdicts.keep(key, verdict.to_json())
    return verdict


PASSING = "its process"
"""How reasons begin that another try may not have."""


def _asked(request: Request, limit_s: float) -> Verdict:
    """Of the process; it computes on the CPU, whatever the machine has."""
    paths = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": "", "TRANSFORMERS_VERBOSITY": "error"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "xpo_ray.rehearsal"],
            input=request.to_json(),
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
            env=environment | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        )
    except subprocess.TimeoutExpired:
        return Verdict("not_rehearsed", f"{PASSING} took longer than {limit_s:.0f} s")
    lines = done.stdout.splitlines() or [""]
    if (verdict := Verdict.of_json(lines[-1])) is not None:
        return verdict
    last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
    return Verdict("not_rehearsed", f"{PASSING} ended with code {done.returncode}: {last}")


def key_of(spec: RunSpec) -> list[object]:
    """All that decides a verdict: the config and the names of the weights, this code and what it stands on, how it computes."""
    model, training = spec.model, spec.training
    decided = model.model_dump(mode="json", include={"dtype", "lora", "revision"})
    objectives = [row.objective.model_dump(mode="json") for row in rows(spec)]
    how = [decided, spec.sampling.engine, training.activation_checkpointing, training.optimizer, objectives]
    return ["rehearsal", _content(spec), how, source_digest(), version("torch"), version("transformers")]


def _content(spec: RunSpec) -> list[object]:
    folder = downloaded_folder(spec.model.path, spec.model.revision)
    if folder is None:
        return [spec.model.path]
    configs = [hashlib.sha256(f.read_bytes()).hexdigest() for n in CONFIGS if (f := folder / n).is_file()]
    names = {n: (t.dtype, t.shape) for n, t in stored_tensors(folder).items()} if has_weights(folder) else {}
    return [configs, sorted(names.items())]


@cache
def source_digest() -> str:
    """sha256 over the code that a rehearsal runs."""
    sha = hashlib.sha256()
    for folder, rooms, files in os.walk(PACKAGE):
        rooms[:] = sorted(room for room in rooms if room not in APART)
        for name in sorted(name for name in files if name.endswith(".py")):
            sha.update((Path(folder) / name).read_bytes())
    return sha.hexdigest()
