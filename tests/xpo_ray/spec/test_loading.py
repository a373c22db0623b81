"""The spec loader: what it accepts, what it refuses, and in which words."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from xpo_ray.errors import SpecError
from xpo_ray.spec import RunSpec, at_iteration, load_spec
from xpo_ray.spec.loading import apply_override, identity, parse_spec, resolve

SPEC: dict[str, Any] = {
    "name": "tiny-selm",
    "seed": 0,
    "model": {"path": "./base", "dtype": "float32"},
    "data": {
        "source": {"kind": "files", "path": "./train.parquet"},
        "evaluation": {"kind": "files", "path": "./test.parquet", "limit": 64},
        "partitions": 3,
        "shard_size": 16,
        "max_prompt_tokens": 128,
    },
    "algorithm": {"kind": "selm", "beta": 0.1, "alpha": 0.01},
    "sampling": {"temperature": 1.0, "max_new_tokens": 48},
    "judge": {"kind": "python", "function": "my_rewards:score"},
    "training": {"learning_rate": 1e-4, "batch_size": 16, "epochs": 1, "warmup_ratio": 0.1},
    "resources": {"layout": "dedicated"},
    "output": {"path": "./out"},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The spec with one key set, or removed where the value is `...`."""
    raw = copy.deepcopy(SPEC)
    *parents, last = path.split(".")
    node = raw
    for parent in parents:
        node = node.setdefault(parent, {})
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return raw


def written(folder: Path, raw: Any) -> Path:
    file = folder / "spec.yaml"
    file.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw))
    return file


def test_the_documented_spec_is_valid_and_its_paths_become_absolute(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    spec = load_spec(written(tmp_path, SPEC))
    assert spec.model.path == str(tmp_path / "base")
    assert spec.data.source.kind == "files"
    assert spec.data.source.path == str(tmp_path / "train.parquet")
    assert spec.output.path == str(tmp_path / "out")
    assert spec.partitions == 3
    assert not spec.online


def test_lists_of_paths_globs_and_the_home_folder_become_absolute(tmp_path: Path) -> None:
    raw = changed("data.source.path", ["./a.parquet", "b/*.jsonl"])
    raw["output"]["path"] = "~/out"
    spec = load_spec(written(tmp_path, raw))
    assert spec.data.source.kind == "files"
    assert spec.data.source.path == (str(tmp_path / "a.parquet"), str(tmp_path / "b/*.jsonl"))
    assert spec.output.path == str(Path.home() / "out")


def test_a_judges_folders_become_absolute_and_its_repositories_stay(tmp_path: Path) -> None:
    for path, backbone in (("./PairRM", "microsoft/deberta-v3-large"), ("llm-blender/PairRM", "./deberta")):
        judge = load_spec(
            written(tmp_path, changed("judge", {"kind": "pairrm", "path": path, "backbone": backbone}))
        ).judge
        assert judge is not None
        assert judge.kind == "pairrm"
        absolute = [p if p[0] != "." else str(tmp_path / p) for p in (path, backbone)]
        assert [judge.path, judge.backbone] == absolute


@pytest.mark.parametrize("path", ["owner/name", "HuggingFaceH4/zephyr-7b-beta"])
def test_a_hub_repository_stays_as_it_is(tmp_path: Path, path: str) -> None:
    assert load_spec(written(tmp_path, changed("model.path", path))).model.path == path


def test_a_folder_that_looks_like_a_hub_repository_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "owner/name").mkdir(parents=True)
    assert load_spec(written(tmp_path, changed("model.path", "owner/name"))).model.path == str(tmp_path / "owner/name")


def test_a_jinja_file_is_looked_up_beside_the_spec_but_the_two_words_are_not(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path, changed("model.chat_template", "chat.jinja")))
    assert spec.model.chat_template == str(tmp_path / "chat.jinja")
    assert load_spec(written(tmp_path, changed("model.chat_template", "plain"))).model.chat_template == "plain"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("modle", {"path": "x"}, ["modle: unknown key", "did you mean 'model'?"]),
        ("training.batchsize", 3, ["training.batchsize: unknown key", "did you mean 'batch_size'?"]),
        ("algorithm.alpa", 1, ["algorithm.alpa: unknown key", "did you mean 'alpha'?"]),
        ("learning_rate", 1, ["learning_rate: unknown key", "did you mean training.learning_rate?"]),
        (
            "training.zzz",
            1,
            ["training.zzz: unknown key", "known are activation_checkpointing, adam_beta1", "weight_decay"],
        ),
        ("algorithm.objective", {"kind": "ipo", "tau": 1}, ["algorithm.objective.tau: unknown key"]),
        ("algorithm.kind", "slem", ["algorithm.kind: unknown, got 'slem'", "did you mean 'selm'?"]),
        ("algorithm.kind", ..., ["algorithm.kind: missing; one of selm, iterative_dpo, xpo"]),
        ("judge.kind", "oracle", ["judge.kind: unknown, got 'oracle'", "python, reward_model"]),
        ("judge.function", "my_rewards.score", ["judge.function: got 'my_rewards.score'", "`module:function`"]),
        ("training.batch_size", "many", ["training.batch_size: should be a valid integer", "got 'many'"]),
        ("training.batch_size", True, ["training.batch_size: should be a number; got true"]),
        ("training.epochs", 0, ["training.epochs: should be greater than or equal to 1; got 0"]),
        ("training.schedule", "cosin", ["training.schedule: should be 'cosine', 'linear' or 'constant'; got 'cosin'"]),
        ("training.learning_rate", float("nan"), ["training.learning_rate: should be a finite number"]),
        ("training", None, ["training: should be a mapping of settings; got nothing"]),
        ("model", "./base", ["model: should be a mapping of settings; got './base'"]),
        ("model.path", ..., ["model.path: missing", "Folder (relative to the spec file)"]),
        ("name", 123, ["name: should be a text; got 123; write it in quotes"]),
        ("judge", ..., ["judge is missing: selm ranks candidates", "judge: {kind: ...}"]),
        ("algorithm.warmup_iterations", 3, ["no iteration is left for selm; raise data.partitions"]),
    ],
)
def test_a_fault_names_the_key_the_value_and_the_remedy(path: str, value: Any, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(changed(path, value))
    for word in words:
        assert word in str(caught.value)


def test_a_field_of_one_value_or_a_list_reports_only_the_form_that_was_meant() -> None:
    with pytest.raises(SpecError) as one:
        parse_spec(changed("training.learning_rate", "fast"))
    assert str(one.value).count("training.learning_rate") == 1
    assert "should be a valid number" in str(one.value)
    with pytest.raises(SpecError) as listed:
        parse_spec(changed("training.learning_rate", [1e-5, "fast", 1e-6]))
    assert str(listed.value).count("training.learning_rate") == 1
    assert "training.learning_rate.1: should be a valid number" in str(listed.value)


def test_all_faults_are_reported_at_once() -> None:
    raw = changed("training.batch_size", "many")
    raw["sampling"]["top_p"] = 2
    raw["modle"] = {}
    with pytest.raises(SpecError) as caught:
        parse_spec(raw)
    assert len(str(caught.value).splitlines()) == 4


def test_a_member_that_is_wrong_is_the_only_fault_and_not_one_member_too_few_too() -> None:
    python = {"judge": {"kind": "python", "function": "m:f"}}
    for member, fault in (
        (
            {"judge": {"kind": "magic"}},
            "judge.members.1.judge.kind: unknown, got 'magic'; known are python, reward_model",
        ),
        ({**python, "weight": 0}, "judge.members.1.weight: should be greater than 0; got 0"),
    ):
        with pytest.raises(SpecError) as caught:
            parse_spec(changed("judge", {"kind": "ensemble", "members": [python, member]}))
        (_, line) = str(caught.value).splitlines()
        assert line.strip().startswith(fault)


def test_per_iteration_lists_have_one_value_per_iteration() -> None:
    spec = parse_spec(changed("training.learning_rate", ["5e-7", 3e-7, 1e-7]))
    assert [at_iteration(spec.training.learning_rate, t) for t in (1, 2, 3)] == [5e-7, 3e-7, 1e-7]
    assert at_iteration(parse_spec(changed("training.learning_rate", [2e-7])).training.learning_rate, 3) == 2e-7
    for path in ("training.learning_rate", "algorithm.alpha", "algorithm.beta"):
        with pytest.raises(SpecError, match=rf"{path} has 2 values, the run has 3 iterations; give one value"):
            parse_spec(changed(path, [1e-5, 1e-6]))


def test_a_dropped_last_batch_needs_partitions_and_fresh_pairs() -> None:
    raw = changed("algorithm", {"kind": "xpo", "data": "accumulate"})
    raw["training"] = raw.get("training", {}) | {"last_batch": "drop"}
    with pytest.raises(SpecError, match=r"last_batch: drop needs algorithm\.data: fresh"):
        parse_spec(raw)
    raw["algorithm"], raw["data"]["partitions"] = {"kind": "xpo"}, None
    with pytest.raises(SpecError, match=r"last_batch: drop needs data\.partitions"):
        parse_spec(raw)


def test_a_fully_online_run_takes_no_list() -> None:
    raw = changed("algorithm", {"kind": "xpo", "alpha": [1e-5, 0]})
    raw["data"]["partitions"] = None
    with pytest.raises(SpecError, match="as many iterations as windows"):
        parse_spec(raw)


def test_overrides_set_keys_and_read_their_values_as_yaml() -> None:
    overrides = [
        "training.learning_rate=1e-5",
        "data.source.path=[a.parquet, b.parquet]",
        "algorithm={kind: dpo, beta: 0.5}",
        "judge=null",
        "evaluation.decoding=greedy",
        "name=1e5",
    ]
    spec = resolve(SPEC, overrides, Path("/runs"))
    assert spec.training.learning_rate == 1e-5
    assert spec.data.source.kind == "files"
    assert spec.data.source.path == ("/runs/a.parquet", "/runs/b.parquet")
    assert (spec.algorithm.kind, spec.algorithm.beta, spec.judge) == ("dpo", 0.5, None)
    assert (spec.evaluation.decoding, spec.name) == ("greedy", "1e5")
    assert SPEC["training"]["learning_rate"] == 1e-4, "the caller's data is left as it is"


def test_an_override_fills_an_empty_section() -> None:
    raw = changed("resources", None)
    apply_override(raw, "resources.engine_replicas=2")
    assert raw["resources"] == {"engine_replicas": 2}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training", "expected key.path=value"),
        ("=3", "expected key.path=value"),
        ("model.path.x=3", "model.path is not a mapping, it is './base'"),
        ("training.epochs=[1", "is not YAML"),
        ("training.lr=1", "training.lr: unknown key"),
        ("training.epochs=few", "training.epochs: should be a valid integer"),
    ],
)
def test_a_bad_override_is_refused(override: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(SPEC, [override], Path("/runs"))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "not YAML"),
        ("- a\n- b\n", "a spec is a mapping, got list"),
        ("", "a spec is a mapping, got NoneType"),
        ("seed: 1\nseed: 2\n", "the key 'seed' stands twice"),
        ("model: {path: a, path: b}\n", "the key 'path' stands twice"),
        ("model: &m {path: *m}\n", "anchors that hold themselves"),
    ],
)
def test_a_file_that_is_no_spec_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(written(tmp_path, text))
    assert words in str(caught.value)


def test_a_merged_mapping_may_be_overridden(tmp_path: Path) -> None:
    raw = yaml.safe_dump(changed("training", ...))
    spec = load_spec(written(tmp_path, f"{raw}training:\n  <<: {{epochs: 2, batch_size: 8}}\n  epochs: 3\n"))
    assert (spec.training.epochs, spec.training.batch_size) == (3, 8)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such spec file"):
        load_spec(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path)


def test_an_open_seed_is_the_one_of_the_run_in_the_output_folder_else_made(tmp_path: Path) -> None:
    file = written(tmp_path, changed("seed", ...))
    asked: list[Path] = []

    def recorded(output: Path) -> int:
        asked.append(output)
        return 17

    assert load_spec(file, seed_of=recorded).seed == 17
    assert asked == [tmp_path / "out"]
    made = {load_spec(file).seed for _ in range(3)}
    assert None not in made
    assert len(made) == 3
    assert load_spec(written(tmp_path, SPEC), seed_of=recorded).seed == 0


def test_identity_leaves_out_what_may_change_between_attempts() -> None:
    first = identity(parse_spec(SPEC), {"data": "x"})
    same = parse_spec(changed("training.micro_batch_tokens", 99) | {"output": {"path": "elsewhere"}})
    assert identity(same, {"data": "x"}) == first
    assert identity(parse_spec(changed("training.batch_size", 8)), {"data": "x"}) != first
    assert identity(same, {"data": "y"}) != first
    json.dumps(first)


def test_the_json_schema_shows_docstrings_units_and_closed_objects() -> None:
    schema = RunSpec.model_json_schema()
    json.dumps(schema)
    training = schema["$defs"]["TrainingSpec"]
    assert training["additionalProperties"] is False
    assert training["properties"]["epochs"]["description"] == "Passes over each partition."
    assert schema["$defs"]["SelmAlgorithm"]["properties"]["kind"]["const"] == "selm"
    assert schema["properties"]["algorithm"]["discriminator"]["propertyName"] == "kind"


def test_importing_the_spec_loads_no_heavy_library() -> None:
    heavy = ("torch", "transformers", "datasets", "ray", "fastapi", "pyarrow")
    code = f"import sys, xpo_ray.spec; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_paths_of_an_ensembles_members_become_absolute_like_a_judges_own(tmp_path: Path) -> None:
    members = [
        {"judge": {"kind": "python", "function": "my_rewards:score"}},
        {"judge": {"kind": "reward_model", "path": "./reward", "chat_template": "chat.jinja"}},
        {"judge": {"kind": "reward_model", "path": "owner/reward"}},
        {"judge": {"kind": "pairrm", "path": "./ranker", "backbone": "./deberta"}},
        {"judge": {"kind": "llm", "url": "http://localhost/v1", "model": "m", "template": "mine.txt"}},
    ]
    for place in ("judge", "evaluation.judge"):
        spec = load_spec(written(tmp_path, changed(place, {"kind": "ensemble", "members": members})))
        judge = spec.judge if place == "judge" else spec.evaluation.judge
        assert judge is not None
        assert judge.kind == "ensemble"
        _, local, hub, ranker, language_model = (member.judge for member in judge.members)
        assert local.kind == hub.kind == "reward_model"
        assert (local.path, local.chat_template) == (str(tmp_path / "reward"), str(tmp_path / "chat.jinja"))
        assert hub.path == "owner/reward"
        assert ranker.kind == "pairrm"
        assert (ranker.path, ranker.backbone) == (str(tmp_path / "ranker"), str(tmp_path / "deberta"))
        assert language_model.kind == "llm"
        assert language_model.template == str(tmp_path / "mine.txt")


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        ({"kind": "ensemble", "members": 3}, ["judge.members: should be a valid tuple; got 3"]),
        (
            {"kind": "ensemble", "members": [None, {}]},
            ["judge.members.0: should be a mapping", "members.1.judge: missing"],
        ),
        (
            {"kind": "ensemble", "members": [{"judge": {"kind": "ensemble", "members": []}}, {"judge": {}}]},
            [
                "judge.members.0.judge: an ensemble may not hold an ensemble",
                "judge.members.1.judge.kind: missing; one of",
            ],
        ),
        (
            {"kind": "ensemble", "members": [{"judge": {"kind": "pyton"}}, {"judgement": {}}]},
            [
                "judge.members.0.judge.kind: unknown, got 'pyton'; did you mean 'python'",
                "judge.members.1.judgement: unknown",
            ],
        ),
        ({"kind": "actor"}, ["judge.name: missing; As given to"]),
    ],
)
def test_a_fault_within_an_ensemble_is_named_with_its_whole_place(judge: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(changed("judge", judge))
    for word in words:
        assert word in str(caught.value)
