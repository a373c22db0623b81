"""Counters of this API process for Prometheus, in a registry of their own; health.routes sets the gauges at a scrape."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
REQUESTS = Histogram(
    "xpo_api_request_seconds",
    "Time to answer, by route.",
    ["method", "route", "status"],
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
RUNS = Gauge("xpo_runs", "Runs by status.", ["status"], registry=REGISTRY)
QUEUED = Gauge("xpo_queue_length", "Runs that wait for resources.", registry=REGISTRY)
EVENTS = Counter("xpo_events", "Events received from drivers.", registry=REGISTRY)
ATTEMPTS = Counter("xpo_attempts_ended", "Attempts by how they ended.", ["ending"], registry=REGISTRY)
REPLAYED = Counter("xpo_steps_replayed", "Steps that were done again after a death.", registry=REGISTRY)
RECONCILE = Histogram("xpo_reconcile_seconds", "Time of a turn of the reconciler.", registry=REGISTRY)
RAY_UP = Gauge("xpo_ray_up", "Whether the cluster answers.", registry=REGISTRY)
DISK_FREE = Gauge("xpo_storage_free_bytes", "Free space under the storage folder.", registry=REGISTRY)
DATABASE_UP = Gauge("xpo_database_up", "Whether the database can be written.", registry=REGISTRY)
DELIVERIES = Counter("xpo_webhook_deliveries", "Deliveries by outcome.", ["outcome"], registry=REGISTRY)
