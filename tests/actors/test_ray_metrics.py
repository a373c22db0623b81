"""The metrics of a run as Ray's own Prometheus export shows them. In a process of its own, whose Ray exports often."""

import json
import subprocess
import sys

import pytest

from tests.service.prometheus import Sample, parsed, value

pytestmark = [pytest.mark.ray]
SCRIPT = """
import json, sys, time
import httpx, ray
from xpo_ray.actors.ray_metrics import RayMetrics
from xpo_ray.reporting import ActorReplaced, EvaluationDone, IterationStarted, ShardDone, StepDone

ray.init(address="local", include_dashboard=False, log_to_driver=False, _system_config={"metrics_report_interval_ms": 500})
told = RayMetrics("tiny", "run_a")
told.emit(IterationStarted(1, 8, 2, 2, 0.1, 1e-4))
for shard in (0, 1):
    told.emit(ShardDone(1, shard, "candidates", 4, 2.0, True, {"tokens": 100.0}))
    asked = {"judge_requests": 6.0, "judge_input_tokens": 600.0, "judge_cost": 0.25, "without_member": 4.0}
    told.emit(ShardDone(1, shard, "preferences", 4, 0.5, True, asked))
told.emit(ShardDone(1, 7, "candidates", 4, 0.0, False, {}))
metrics = {"loss": 0.5, "kl/reference_policy": 0.25, "rewards/margins": 0.125, "rewards/accuracies": 1.0, "tokens": 30.0}
told.emit(StepDone(1, 1, 1, metrics, 2.0, False))
told.emit(StepDone(1, 1, 1, metrics, 3.0, True))
told.emit(ActorReplaced("policy/0", 1, "killed"))
told.emit(ActorReplaced("judge/0", 1, "killed"))
told.emit(EvaluationDone(1, {"reward": 1.5, "win_rate/base": None, "kl/k1": 0.75}, 1.0))
[node] = ray.nodes()
address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
deadline = time.monotonic() + 300
while True:
    text = httpx.get(address, trust_env=False).text
    if "xpo_ray_held_out_kl_nats" in text or time.monotonic() > deadline:
        break
    time.sleep(0.2)
print(json.dumps(text))
ray.shutdown()
"""


@pytest.fixture(scope="module")
def shown() -> list[Sample]:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return parsed(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("name", "tags", "expected"),
    [
        ("prompts_total", {"stage": "candidates"}, 8),
        ("prompts_total", {"stage": "preferences"}, 8),
        ("drawn_tokens_total", {}, 200),
        ("judge_latency_seconds_count", {}, 2),
        ("judge_requests_total", {}, 12),
        ("judge_input_tokens_total", {}, 1200),
        ("judge_cost_total", {}, 0.5),
        ("judge_without_member_total", {}, 8),
        ("judge_latency_seconds_bucket", {"le": "0.3"}, 0),
        ("judge_latency_seconds_bucket", {"le": "1.0"}, 2),
        ("shard_stage_seconds_bucket", {"stage": "candidates", "le": "1.0"}, 0),
        ("shard_stage_seconds_bucket", {"stage": "candidates", "le": "3.0"}, 2),
        ("shard_age_seconds_count", {"stage": "preferences"}, 2),
        ("step_seconds_count", {}, 2),
        ("step_seconds_bucket", {"le": "1.0"}, 0),
        ("step_seconds_bucket", {"le": "3.0"}, 2),
        ("steps", {}, 1),
        ("trained_tokens_per_second", {}, 10),
        ("replayed_steps_total", {}, 1),
        ("wasted_seconds_total", {}, 3),
        ("actor_restarts_total", {"role": "policy"}, 1),
        ("actor_restarts_total", {"role": "judge"}, 1),
        ("loss_nats", {}, 0.5),
        ("kl_nats", {}, 0.25),
        ("reward_margin", {}, 0.125),
        ("reward_accuracy_ratio", {}, 1),
        ("reward", {}, 1.5),
        ("held_out_kl_nats", {}, 0.75),
    ],
)
def test_what_a_run_tells_stands_in_rays_export(
    shown: list[Sample], name: str, tags: dict[str, str], expected: float
) -> None:
    assert value(shown, f"ray_xpo_ray_{name}", run="tiny", run_id="run_a", **tags) == expected


def test_ages_and_rates_go_by_the_clock_from_the_beginning_of_a_shard(shown: list[Sample]) -> None:
    """Both shards began 2 s before their draws were told: 100 tokens, then 200, in just over 2 s."""
    rate = value(shown, "ray_xpo_ray_drawn_tokens_per_second", run_id="run_a")
    assert rate is not None
    assert 50 < rate <= 100
    ages = "ray_xpo_ray_shard_age_seconds_bucket"
    for stage in ("candidates", "preferences"):
        counts = [value(shown, ages, run_id="run_a", stage=stage, le=le) for le in ("1.0", "10.0")]
        assert counts == [0, 2]


def test_what_was_not_told_is_not_shown_and_every_name_has_the_prefix(shown: list[Sample]) -> None:
    assert value(shown, "ray_xpo_ray_win_rate_ratio", run_id="run_a") is None
    own = {sample.name for sample in shown if sample.tags.get("run_id") == "run_a"}
    assert own
    assert {name for name in own if not name.startswith("ray_xpo_ray_")} == set()
