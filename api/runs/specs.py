"""From the spec of a submission to a resolved RunSpec that the operator's lists allow; faults become one Refusal.

Submission, validation and forks call it, in a thread: it looks at files. Judges are looked at again when a run is resumed and
when a driver claims an attempt. It never writes and never reads a secret's value.
"""

import glob
import secrets
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Dataset, Model
from xpo_ray.api.datasets.roots import allowed_repository, below_roots, links_below
from xpo_ray.api.hosts import check_url
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Settings
from xpo_ray.errors import JudgeError, SpecError
from xpo_ray.judges.checks import check_judge
from xpo_ray.spec.judge import ActorJudge, JudgeSpec, SingleJudge, single_judges
from xpo_ray.spec.loading import parse_spec
from xpo_ray.spec.remote_judge import HttpJudge, LlmJudge
from xpo_ray.spec.run import RunSpec

SENDS_BY: dict[str, tuple[str, ...]] = {
    "wandb": ("WANDB_API_KEY", "WANDB_MODE"),
    "mlflow": ("MLFLOW_TRACKING_URI",),
    "trackio": ("TRACKIO_DIR", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"),
}
"""Trackers that may send data out: a run may use one where it asks for one of these secrets, which only the operator sets."""
MOST_FILES = 10_000
_JUDGE: TypeAdapter[JudgeSpec | None] = TypeAdapter(JudgeSpec | None)


def resolved(
    services: Services, raw: dict[str, Any], asked_secrets: list[str], run_id: str, *, model: Path | None = None
) -> RunSpec:
    """The spec as the run will have it. `model`: a folder of the service's own that a fork starts from. Raises Refusal."""
    known = services.settings.secrets()
    if missing := sorted(set(asked_secrets) - set(known)):
        raise Refusal(
            422, "secret_unknown", f"secrets: the operator has none named {', '.join(missing)}", field="secrets"
        )
    raw = dict(raw)  # the caller's stays as it is
    if isinstance(raw.get("data"), dict):
        raw["data"] = dict(raw["data"])
    _check_output(raw)
    own = _named(services, raw)
    if model is not None:
        raw["model"] = {**(raw.get("model") or {}), "path": str(model)}
        own.add(str(model))
    if raw.get("seed") is None:
        raw["seed"] = secrets.randbelow(2**31)
    raw["output"] = {**(raw.get("output") or {}), "path": str(services.run_folder(run_id))}
    try:
        spec = parse_spec(raw)
    except SpecError as error:
        raise _invalid(str(error)) from error
    _check_allowed(services, spec, own, asked_secrets)
    return spec


def _check_output(raw: dict[str, Any]) -> None:
    output = raw.get("output")
    if isinstance(output, dict) and "path" not in output:
        return
    if output is not None:
        raise Refusal(
            422, "spec_invalid", "spec.output.path: the service chooses the folder; leave it out", field="spec.output"
        )


def _named(services: Services, raw: dict[str, Any]) -> set[str]:
    """Replace ids of datasets and models by what they stand for; returns the paths that came from there."""
    data, model = raw.get("data"), raw.get("model")
    kinds = [part.get("kind") for part in (data.values() if isinstance(data, dict) else ()) if isinstance(part, dict)]
    if "dataset" not in kinds and not (isinstance(model, dict) and "registered" in model):
        return set()
    with services.database.read() as session:
        return _looked_up(session, raw)


def _looked_up(session: Session, raw: dict[str, Any]) -> set[str]:
    own: set[str] = set()
    data = raw.get("data")
    for part in ("source", "evaluation"):
        source = data.get(part) if isinstance(data, dict) else None
        if isinstance(source, dict) and source.get("kind") == "dataset":
            row = session.get(Dataset, str(source.get("id")))
            if row is None:
                raise _unknown(f"spec.data.{part}.id", "dataset", source.get("id"))
            rest = {k: v for k, v in source.items() if k not in ("kind", "id")}
            raw["data"][part] = {**rest, **row.source}
            own.update(_paths(row.source.get("path")))
    model = raw.get("model")
    if isinstance(model, dict) and "registered" in model:
        found = session.get(Model, str(model["registered"]))
        if found is None:
            raise _unknown("spec.model.registered", "model", model["registered"])
        rest = {k: v for k, v in model.items() if k not in ("registered", "path", "revision")}
        raw["model"] = {**rest, "path": found.path or found.repository}
        if found.revision is not None:
            raw["model"]["revision"] = found.revision
    return own


def _check_allowed(services: Services, spec: RunSpec, own: set[str], asked_secrets: list[str]) -> None:
    settings = services.settings
    for part in ("source", "evaluation"):
        source, field = getattr(spec.data, part), f"spec.data.{part}"
        if source is None:
            continue
        if source.kind == "hub":
            for name in source.names:
                allowed_repository(settings, name, f"{field}.name")
            continue
        for path in _paths(source.path):
            if path not in own:
                _check_files(services, path, f"{field}.path")
    if spec.model.path not in own:
        _check_model(settings, spec.model.path, "spec.model.path")
    _check_template(settings, getattr(spec.model, "chat_template", None), "spec.model.chat_template")
    _check_judges(settings, spec.judge, spec.evaluation.judge, asked_secrets)
    _check_checkpoints(spec)
    for number, export in enumerate(spec.exports):
        needs = SENDS_BY.get(export.kind, ())
        if needs and not set(needs) & set(asked_secrets):
            detail = (
                f"{export.kind} sends data out; ask for one of the operator's secrets {', '.join(needs)} in `secrets`"
            )
            raise Refusal(422, "spec_invalid", detail, field=f"spec.exports.{number}")


def check_judges_again(settings: Settings, spec: dict[str, Any], asked_secrets: list[str]) -> None:
    """Whether the operator's lists, which may be shorter now, still allow the judges of a run; `spec` is its resolved spec as
    JSON. Raises Refusal."""
    try:
        judge = _JUDGE.validate_python(spec.get("judge"))
        evaluation = _JUDGE.validate_python((spec.get("evaluation") or {}).get("judge"))
    except ValidationError:  # of an older version; its driver says what is wrong with it
        return
    _check_judges(settings, judge, evaluation, asked_secrets)


def _check_judges(
    settings: Settings, judge: JudgeSpec | None, evaluation: JudgeSpec | None, asked_secrets: list[str]
) -> None:
    for each, field in ((judge, "spec.judge"), (evaluation, "spec.evaluation.judge")):
        for place, single in () if each is None else single_judges(each, field):
            _check_judge(settings, single, place, asked_secrets)


def _check_checkpoints(spec: RunSpec) -> None:
    """Judges whose models lie where this process sees them; those of other nodes are looked at by the driver."""
    for judge, field in ((spec.judge, "spec.judge"), (spec.evaluation.judge, "spec.evaluation.judge")):
        for place, single in () if judge is None else single_judges(judge, field):
            if single.kind in ("reward_model", "pairrm") and Path(single.path).is_dir():
                try:
                    check_judge(single, Path("/"))
                except JudgeError as error:
                    raise Refusal(422, "spec_invalid", f"{place}: {error}", field=f"{place}.path") from error


def _check_judge(settings: Settings, judge: SingleJudge, field: str, asked_secrets: list[str]) -> None:
    match judge.kind:
        case "python":
            _check_plugin(settings, judge.function, f"{field}.function")
        case "actor":
            _check_actor(settings, judge, f"{field}.name")
        case "reward_model":
            _check_model(settings, judge.path, f"{field}.path")
            _check_template(settings, judge.chat_template, f"{field}.chat_template")
        case "pairrm":
            _check_model(settings, judge.path, f"{field}.path")
            if judge.backbone is not None:
                _check_model(settings, judge.backbone, f"{field}.backbone")
        case "http" | "llm":
            _check_remote(settings, judge, field, asked_secrets)


def _check_files(services: Services, path: str, field: str) -> None:
    """A file, a folder or a pattern: itself and everything that it leads to lies where submitters may read."""
    _below(services, path, field)
    folder = Path(path)
    found = folder.rglob("*") if folder.is_dir() else map(Path, glob.iglob(path, recursive=True))
    for number, file in enumerate(found):
        if number >= MOST_FILES:
            raise Refusal(422, "path_not_allowed", f"{field} {path!r:.200}: over {MOST_FILES} files", field=field)
        if str(file) != path:
            _below(services, str(file), field)


def _below(services: Services, path: str, field: str) -> None:
    below_roots((*services.settings.roots, str(services.storage / "datasets")), path, field)


def _check_model(settings: Settings, path: str, field: str) -> None:
    if path.startswith(("/", ".", "~")) or path.count("/") != 1:
        folder = below_roots(settings.roots, path, field)
        if folder.is_dir():
            links_below(settings.roots, folder, field)
    else:
        allowed_repository(settings, path, field)


def _check_template(settings: Settings, template: str | None, field: str) -> None:
    if template not in (None, "tokenizer", "plain"):
        below_roots(settings.roots, template, field)


def _check_remote(settings: Settings, judge: HttpJudge | LlmJudge, field: str, asked_secrets: list[str]) -> None:
    """Its host is the operator's choice; the token is a secret of the run, no other variable of the cluster's processes."""
    check_url(settings, judge.url, f"{field}.url")
    if judge.token_env is not None and judge.token_env not in asked_secrets:
        detail = f"{field}.token_env {judge.token_env!r}: ask for this secret of the operator's in `secrets`"
        raise Refusal(422, "spec_invalid", detail, field=f"{field}.token_env")
    if isinstance(judge, HttpJudge):
        _check_template(settings, judge.chat_template, f"{field}.chat_template")
    elif judge.template is not None:
        below_roots(settings.roots, judge.template, f"{field}.template")


def _check_plugin(settings: Settings, function: str, field: str) -> None:
    if not any(fnmatchcase(function, pattern) for pattern in settings.plugins):
        raise Refusal(
            422,
            "plugin_not_allowed",
            f"{field} {function!r:.200}: not on the operator's list of plug-ins; ask for --plugin module:function",
            field=field,
        )


def _check_actor(settings: Settings, judge: ActorJudge, field: str) -> None:
    """By namespace and name: runs of others have actors on the same cluster."""
    if not any(fnmatchcase(f"{judge.namespace}/{judge.name}", pattern) for pattern in settings.judge_actors):
        raise Refusal(
            422,
            "actor_not_allowed",
            f"{field} {judge.name!r:.100} in namespace {judge.namespace!r:.100}: not on the operator's list of judges; ask for "
            "--judge-actor namespace/name",
            field=field,
        )


def _paths(path: Any) -> list[str]:
    return [] if path is None else [str(p) for p in path] if isinstance(path, (list, tuple)) else [str(path)]


def _unknown(field: str, what: str, got: Any) -> Refusal:
    return Refusal(422, "spec_invalid", f"{field}: there is no {what} {got!r:.80}", field=field)


def _invalid(text: str) -> Refusal:
    lines = [line.strip() for line in text.splitlines()[1:]] or [text]
    faults = [{"field": f"spec.{line.partition(': ')[0]}"[:200], "detail": line.partition(": ")[2]} for line in lines]
    return Refusal(422, "spec_invalid", "; ".join(lines[:5]), field=faults[0]["field"], errors=faults[:100])
