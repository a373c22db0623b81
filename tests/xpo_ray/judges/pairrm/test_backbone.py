import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.xpo_ray.judges.pairrm.worlds import edit, hf_folder, ranker_folder
from xpo_ray.errors import JudgeError
from xpo_ray.judges.checks import check_judge, judge_digest
from xpo_ray.judges.pairrm.backbone import local_backbone
from xpo_ray.spec import PairRMJudge


def spec(path: Path | str, **settings: Any) -> PairRMJudge:
    return PairRMJudge(kind="pairrm", path=str(path), **settings)


def test_both_forms_pass_the_checks_and_have_a_digest_that_follows_weights_and_backbone(tmp_path: Path) -> None:
    hf, ranker = hf_folder(tmp_path / "hf"), ranker_folder(tmp_path)
    for folder in (hf, ranker):
        check_judge(spec(folder), tmp_path)
    before = [judge_digest(spec(folder), tmp_path) for folder in (hf, ranker)]
    edit(tmp_path / "deberta-v3-large" / "config.json", layer_norm_eps=1e-5)
    after = [judge_digest(spec(folder), tmp_path) for folder in (hf, ranker)]
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    hf_folder(tmp_path / "hf", seed=1)
    assert judge_digest(spec(hf), tmp_path) != before[0]


def test_the_same_backbone_elsewhere_has_the_same_digest(tmp_path: Path) -> None:
    ranker = ranker_folder(tmp_path)
    before = judge_digest(spec(ranker), tmp_path)
    moved = Path(shutil.move(tmp_path / "deberta-v3-large", tmp_path / "moved"))
    assert judge_digest(spec(ranker, backbone=str(moved)), tmp_path) == before


def test_hub_repositories_are_taken_at_their_word() -> None:
    named = spec("llm-blender/PairRM", backbone="microsoft/deberta-v3-large")
    check_judge(named, Path("."))
    assert judge_digest(named, Path(".")) == "hub:llm-blender/PairRM"


def test_what_is_missing_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    ranker, hf = ranker_folder(tmp_path), hf_folder(tmp_path / "hf")
    (tmp_path / "empty").mkdir()
    with pytest.raises(JudgeError, match=r"leave it out"):
        check_judge(spec(hf, backbone=str(tmp_path)), tmp_path)
    with pytest.raises(
        JudgeError, match=r"judge\.backbone .*empty: has no config\.json; give the config and tokenizer of mi"
    ):
        check_judge(spec(ranker, backbone=str(tmp_path / "empty")), tmp_path)
    shutil.rmtree(tmp_path / "deberta-v3-large")
    with pytest.raises(JudgeError, match=r"set judge\.backbone to microsoft/deberta-v3-large or to a folder"):
        check_judge(spec(ranker), tmp_path)
    weights = load_file(hf / "model.safetensors")
    save_file({k: v for k, v in weights.items() if k != "head_layer.4.bias"}, hf / "model.safetensors")
    with pytest.raises(JudgeError, match=r"not PairRM's weights: head_layer\.4\.bias missing; give llm-"):
        check_judge(spec(hf), tmp_path)
    name = "pretrained_model.encoder.layer.1.output.dense.weight"
    save_file({k: v for k, v in weights.items() if k != name} | {"extra": weights[name]}, hf / "model.safetensors")
    with pytest.raises(JudgeError, match=rf"not PairRM's weights: {name} missing; extra unexpected; give"):
        check_judge(spec(hf), tmp_path)
    with pytest.raises(JudgeError, match=r"judge .*nothing: .*no such model folder"):
        check_judge(spec(tmp_path / "nothing"), tmp_path)


@pytest.mark.parametrize("name", ["..", "../..", "/", "", "a/.."])
def test_a_model_name_of_a_config_leads_nowhere_but_into_the_folder_or_beside_it(tmp_path: Path, name: str) -> None:
    ranker = ranker_folder(tmp_path)
    shutil.copy(tmp_path / "deberta-v3-large" / "config.json", tmp_path)
    shutil.rmtree(tmp_path / "deberta-v3-large")
    edit(ranker / "config.json", model_name=name)
    with pytest.raises(JudgeError, match=r"set judge\.backbone to"):
        local_backbone(spec(ranker), ranker)


def test_the_checks_load_no_torch(tmp_path: Path) -> None:
    ranker = ranker_folder(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from xpo_ray.judges.checks import check_judge; from xpo_ray.spec import PairRMJudge\n"
        "check_judge(PairRMJudge(kind='pairrm', path=sys.argv[1]), Path('.'))\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ranker)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
