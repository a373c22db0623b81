"""The command line as a user meets it: exit codes, messages for bad input, nothing written, nothing heavy imported."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.running import tiny_world, write_spec
from tests.tiny import tiny_model_folder, tiny_pairs, write_parquet
from tests.xpo_ray.plan.test_shapes import LLAMA_3_8B, config_folder
from xpo_ray.cli import main
from xpo_ray.errors import JudgeUnreachable, NeedsAttention, NothingLearned

Edit = Callable[[dict[str, Any], Path], None]


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("origin")
    return folder, tiny_world(folder)


@pytest.fixture
def here(origin: tuple[Path, dict[str, Any]], tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A world of its own for a test that spoils it."""
    folder, raw = origin
    shutil.copytree(folder, tmp_path / "world")
    return tmp_path / "world", json.loads(json.dumps(raw))


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    monkeypatch.setattr(sys, "argv", ["xpo-ray", *map(str, args)])
    code = 0
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def unknown_key(raw: dict[str, Any], _: Path) -> None:
    raw["algorithm"]["alpa"] = 0.1


def wrong_type(raw: dict[str, Any], _: Path) -> None:
    raw["training"]["batch_size"] = "many"


def too_many_partitions(raw: dict[str, Any], _: Path) -> None:
    raw["data"]["partitions"] = 49


def missing_file(raw: dict[str, Any], _: Path) -> None:
    raw["data"]["source"]["path"] = "./trian.parquet"


def missing_columns(_: dict[str, Any], folder: Path) -> None:
    write_parquet(folder / "train.parquet", [{"question": "a", "answer": "b"}])


def empty_answer(_: dict[str, Any], folder: Path) -> None:
    rows = [{"prompt": f"p {i}", "chosen": "good", "rejected": "bad"} for i in range(48)]
    rows[7]["rejected"] = "  "
    write_parquet(folder / "train.parquet", rows)


def number_for_an_answer(_: dict[str, Any], folder: Path) -> None:
    write_parquet(folder / "train.parquet", [{"prompt": f"p {i}", "chosen": "good", "rejected": i} for i in range(48)])


def prompts_alone(_: dict[str, Any], folder: Path) -> None:
    write_parquet(folder / "train.parquet", [{"prompt": f"p {i}"} for i in range(48)])


def no_tokenizer(_: dict[str, Any], folder: Path) -> None:
    for file in (folder / "base").glob("token*"):
        file.unlink()
    for file in (folder / "base").glob("*.jinja"):
        file.unlink()


def no_chat_template(_: dict[str, Any], folder: Path) -> None:
    shutil.rmtree(folder / "base")
    tiny_model_folder(folder / "base", chat=False)


def no_judge_module(raw: dict[str, Any], _: Path) -> None:
    raw["judge"]["function"] = "vowel:score"


def no_judge_function(raw: dict[str, Any], _: Path) -> None:
    raw["judge"]["function"] = "vowels:scores"


def batch_larger_than_a_partition(raw: dict[str, Any], _: Path) -> None:
    raw["training"]["batch_size"] = 25


def foreign_output(_: dict[str, Any], folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("do not touch")


CASES: dict[str, tuple[Edit, list[str]]] = {
    "an unknown key": (unknown_key, ["algorithm.alpa", "unknown key", "'alpha'"]),
    "a wrong type": (wrong_type, ["training.batch_size", "'many'", "integer"]),
    "more partitions than prompts": (too_many_partitions, ["partitions", "49", "48"]),
    "a missing file": (missing_file, ["trian.parquet"]),
    "a parquet without the columns": (missing_columns, ["train.parquet", "prompt", "question"]),
    "an empty answer": (empty_answer, ["train.parquet", "row 7", "rejected"]),
    "an answer that is no string": (number_for_an_answer, ["train.parquet", "row 0", "rejected"]),
    "selm on prompt-only data": (prompts_alone, ["selm", "chosen"]),
    "a model folder without tokenizer": (no_tokenizer, ["base", "tokenizer"]),
    "no chat template": (no_chat_template, ["chat_template", "plain"]),
    "a judge module that is not there": (no_judge_module, ["vowel:score", "vowel"]),
    "a judge function that is not there": (no_judge_function, ["vowels:scores", "vowels.py", "scores"]),
    "a batch larger than a partition": (batch_larger_than_a_partition, ["batch_size", "25", "24"]),
    "an output folder with something else": (foreign_output, ["out", "not empty"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_a_clear_answer_and_nothing_is_written(
    case: str,
    here: tuple[Path, dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, raw = here
    edit, told = CASES[case]
    edit(raw, folder)
    spec = write_spec(folder, raw)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    code, out, err = run(capsys, monkeypatch, "run", spec)
    after = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert code == 2, err
    assert out == ""
    assert before == after
    for text in told:
        assert text in err
    assert "Traceback" not in err


def test_a_folder_with_another_run_is_refused(
    here: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, raw = here
    (folder / "out").mkdir()
    (folder / "out" / "run.json").write_text("{}")
    code, _, err = run(capsys, monkeypatch, "run", write_spec(folder, raw))
    assert code == 2
    assert "holds another run" in err
    assert "--resume" in err


def test_validate_prints_the_resolved_spec_with_kappa_and_seed_and_the_plan_as_json(
    here: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, raw = here
    del raw["seed"]
    spec = write_spec(folder, raw)
    code, out, err = run(capsys, monkeypatch, "validate", spec, "--json", "--set", "training.learning_rate=1e-5")
    assert code == 0, err
    answer = json.loads(out)
    assert isinstance(answer["spec"]["seed"], int)
    assert answer["spec"]["training"]["learning_rate"] == 1e-5
    assert answer["spec"]["training"]["adam_beta2"] == 0.999
    assert answer["kappa"] == pytest.approx([1e-3])
    assert answer["plan"]["totals"]["steps"] == 6
    assert answer["rows"] is None


def test_validate_plans_a_hub_dataset_with_the_rows_that_are_said(
    here: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, raw = here
    raw["data"]["source"] = {"kind": "hub", "name": "owner/data"}
    spec = write_spec(folder, raw)
    code, out, _ = run(capsys, monkeypatch, "validate", spec, "--json")
    assert (code, json.loads(out)["plan"]["totals"]["steps"]) == (0, None)
    code, out, _ = run(capsys, monkeypatch, "validate", spec, "--json", "--rows", 48)
    assert (code, json.loads(out)["plan"]["totals"]["steps"]) == (0, 6)


def test_validate_deep_reads_every_row(
    here: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, raw = here
    rows = tiny_pairs(48)
    for turn in (rows[3]["chosen"], rows[3]["rejected"]):
        turn[0]["content"] = "long " * 2000
    rows[3]["prompt"] = "long " * 2000
    write_parquet(folder / "train.parquet", rows)
    code, out, err = run(capsys, monkeypatch, "validate", write_spec(folder, raw), "--deep", "--json")
    assert code == 0, err
    counts = json.loads(out)["rows"]["source"]
    assert (counts["read"], counts["kept"], counts["dropped_overlong"]) == (48, 47, 1)
    empty_answer(raw, folder)
    code, _, err = run(capsys, monkeypatch, "validate", write_spec(folder, raw), "--deep")
    assert code == 2
    assert "row 7" in err


def test_the_schema_of_a_spec_carries_the_docstrings_of_its_fields(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, monkeypatch, "schema")
    schema = json.loads(out)
    assert code == 0
    assert set(schema["required"]) == {"model", "data", "algorithm", "output"}
    assert "exploration bonus" in schema["$defs"]["SelmAlgorithm"]["properties"]["alpha"]["description"]


def test_validate_and_help_import_nothing_heavy(here: tuple[Path, dict[str, Any]]) -> None:
    folder, raw = here
    spec = write_spec(folder, raw)
    code = (
        "import sys\nfrom xpo_ray.cli import main\n"
        f"sys.argv = ['xpo-ray', 'validate', {str(spec)!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'ray', 'fastapi'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "HEAVY []" in done.stdout
    assert "valid" in done.stdout


def test_prompts_of_one_partition_may_differ_from_another_by_one(
    here: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, raw = here
    write_parquet(folder / "train.parquet", tiny_pairs(47))
    code, out, err = run(capsys, monkeypatch, "validate", write_spec(folder, raw), "--json")
    assert code == 0, err
    assert [i["prompts"] for i in json.loads(out)["plan"]["iterations"]] == [24, 23]


@pytest.mark.parametrize("why", [JudgeUnreachable, NothingLearned])
def test_a_run_that_pauses_by_itself_says_how_to_go_on_and_ends_with_1(
    why: type[NeedsAttention],
    here: tuple[Path, dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, raw = here

    def out_of_reach(*_: object, **__: object) -> None:
        raise why("this is the reason")

    monkeypatch.setattr("xpo_ray.cli.foreground.run_and_show", out_of_reach)
    code, _, said = run(capsys, monkeypatch, "run", write_spec(folder, raw))
    assert code == 1
    assert "the run is paused, go on with --resume: this is the reason" in said


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ({"kind": "http", "url": "localhost:9"}, "give http(s)://host[:port]/path"),
        (
            {"kind": "http", "url": "http://localhost:9/", "token_env": "NOT_SET"},
            "judge.token_env NOT_SET: this variable",
        ),
        ({"kind": "llm", "url": "http://localhost:9/v1"}, "judge.model"),
        ({"kind": "llm", "url": "http://localhost:9/v1", "model": "m", "template": "./none.txt"}, "cannot be read"),
    ],
)
def test_a_remote_judge_that_cannot_be_asked_is_refused_before_anything_starts(
    here: tuple[Path, dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    judge: dict[str, Any],
    said: str,
) -> None:
    folder, raw = here
    code, _, error = run(capsys, monkeypatch, "validate", write_spec(folder, {**raw, "judge": judge}))
    assert code == 2
    assert said in " ".join(error.split())


def test_a_run_is_planned_for_gpus_that_are_elsewhere_and_refused_where_it_cannot_fit_on_them(
    here: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, raw = here
    large = config_folder(folder / "base", LLAMA_3_8B)
    (large / "model.safetensors").unlink()
    raw["resources"] = {"engine_replicas": 1, "trainer_workers": 4}
    raw["sampling"]["engine"] = "transformers"
    spec = write_spec(folder, raw)
    code, out, err = run(capsys, monkeypatch, "validate", spec, "--json", "--gpus", 8, "--gpu-memory-gib", 80)
    assert code == 0, err
    made = json.loads(out)["plan"]
    assert (made["machine"]["gpus"], made["machine"]["gpu_memory"]) == (8, 80 * 2**30)
    assert made["layouts"][0]["fullest_gpu"]["roles"] == ["trainer"]
    code, out, err = run(capsys, monkeypatch, "validate", spec, "--gpus", 8, "--gpu-memory-gib", 24)
    assert code == 2
    assert "layout dedicated (chosen): the fullest of" in " ".join(out.split())
    assert "valid\n" not in out
    assert "GPU memory: a GPU with trainer certainly needs 32.4 GB, it has 25.8 GB" in err
    code, _, err = run(capsys, monkeypatch, "validate", spec, "--gpu-memory-gib", 24, "--gpus", 0)
    assert (code, "say how many to plan for with --gpus N" in err) == (2, True)


def test_a_run_that_cannot_fit_on_this_machine_is_refused_before_a_row_is_read(
    here: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, raw = here
    config_folder(folder / "base", LLAMA_3_8B | {"num_hidden_layers": 3200})
    (folder / "base" / "model.safetensors").unlink()
    (folder / "train.parquet").write_bytes(b"never read")
    code, out, err = run(capsys, monkeypatch, "run", write_spec(folder, raw))
    assert (code, out) == (2, "")
    assert "memory: the run certainly needs" in err
    assert "this machine has" in err
    assert not (folder / "out").exists()
