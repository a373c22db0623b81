"""The metrics of a run of the service, as Prometheus would read them from its Ray head while the run is disturbed."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.prometheus import Sample, of_head, value
from tests.service.recovery import CANARY, World, begun
from tests.service.serving import Service, actor_pid, kill, serving
from xpo_ray.run_states import FINAL

pytestmark = [pytest.mark.ray, pytest.mark.faults]
PROMPTS = 48
SENSIBLE: dict[str, tuple[dict[str, str], float, float]] = {
    "prompts_total": ({"stage": "candidates"}, 1, PROMPTS),
    "drawn_tokens_total": ({}, 1, PROMPTS * 64),
    "drawn_tokens_per_second": ({}, 0.1, 1e6),
    "trained_tokens_per_second": ({}, 0.1, 1e7),
    "judge_latency_seconds_sum": ({}, 0.1, 300),
    "shard_age_seconds_sum": ({"stage": "preferences"}, 0.1, 300),
    "shard_stage_seconds_count": ({"stage": "candidates"}, 1, PROMPTS),
    "step_seconds_count": ({}, 1, 100),
    "steps": ({}, 1, 100),
    "reward": ({}, 0, 1),
    "kl_nats": ({}, -10, 10),
    "loss_nats": ({}, 0, 2),
    "actor_restarts_total": ({"role": "trainer"}, 1, 3),
    "replayed_steps_total": ({}, 1, 100),
    "wasted_seconds_total": ({}, 0, 300),
}
"""Tags, and the least and the most that a tiny run can have."""


@pytest.fixture
def service(slow_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "500")
    secrets = tmp_path / "secrets.json"
    secrets.write_text(f'{{"HIDDEN": "{CANARY}"}}')
    with serving(tmp_path / "storage", slow_world.folder, "--secrets-file", str(secrets)) as made:
        yield made


def seen(service: Service, run_id: str) -> dict[str, float]:
    """What a metric showed last while the run went on: Ray forgets the numbers of a process that has ended."""
    shown: dict[str, float] = {}
    while service.run(run_id)["status"] not in FINAL:
        samples: list[Sample] = of_head(service)
        for name, (tags, _, _) in SENSIBLE.items():
            if (now := value(samples, f"ray_xpo_ray_{name}", run_id=run_id, **tags)) is not None:
                shown[name] = now
        time.sleep(0.3)
    return shown


def test_all_metrics_of_a_disturbed_run_stand_in_the_export_of_its_head(service: Service, slow_world: World) -> None:
    run_id = begun(service, slow_world.spec)
    kill(actor_pid(service, run_id, "trainer"))
    shown = seen(service, run_id)
    print("\nMETRICS", shown)
    assert service.run(run_id)["status"] == "succeeded"
    assert sorted(shown) == sorted(SENSIBLE)
    odd = {name: shown[name] for name, (_, least, most) in SENSIBLE.items() if not least <= shown[name] <= most}
    assert odd == {}
