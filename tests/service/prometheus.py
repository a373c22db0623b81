"""Prometheus' text format, read by its own client library, and the metrics of a service's Ray head."""

import json
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.service.serving import Service


@dataclass(frozen=True)
class Sample:
    """One value of a metric."""

    name: str
    tags: dict[str, str]
    value: float


def parsed(text: str) -> list[Sample]:
    """All values of an export."""
    return [
        Sample(s.name, s.labels, s.value) for family in text_string_to_metric_families(text) for s in family.samples
    ]


def value(samples: list[Sample], name: str, **tags: str) -> float | None:
    """The sum over all processes that have this metric with these tags; None where none has."""
    found = [s.value for s in samples if s.name == name and tags.items() <= s.tags.items()]
    return sum(found) if found else None


def of_head(service: Service) -> list[Sample]:
    """What the head of a service exports now, at the addresses that Ray gives Prometheus."""
    folder = Path(json.loads((service.storage / "ray" / "head.json").read_text())["folder"])
    listed = json.loads((folder / "prom_metrics_service_discovery.json").read_text())
    targets = [target for group in listed for target in group["targets"]]
    found: list[Sample] = []
    for target in targets:
        answer = httpx.get(f"http://{target}/metrics", timeout=10, trust_env=False)
        found += parsed(answer.text) if answer.status_code == 200 else []
    return found
