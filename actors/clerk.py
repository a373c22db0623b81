"""The clerk: it lays draws together and publishes tables, so that no actor that computes ever waits for a disk. No torch.

Commits of a shard come in the order of its stages; the scheduler sees to that. Publishing is create-if-absent, so that a
call made twice does nothing the second time.
"""

import os
import time
from typing import Any

import pyarrow as pa

from xpo_ray.actors.summary import Summary
from xpo_ray.candidates import complete_candidates
from xpo_ray.storage import Storage


class ClerkActor:
    """One replica of the clerk."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def collect(
        self, shard: pa.Table, dataset_candidates: bool, begins: tuple[int, ...], *drawn: pa.Table
    ) -> tuple[pa.Table, Summary]:
        """PROMPTS → CANDIDATES; the shard's rows of the i-th drawn table begin at begins[i]."""
        started = time.monotonic()
        own = [table.slice(begin, shard.num_rows) for table, begin in zip(drawn, begins, strict=True)]
        table = complete_candidates(shard, own, dataset_candidates=dataset_candidates)
        return table, Summary(shard.num_rows, time.monotonic() - started, {})

    def publish(self, key: str, table: pa.Table) -> tuple[None, Summary]:
        """Publish a table under a key."""
        started = time.monotonic()
        self.storage.publish_table(key, table)
        return None, Summary(table.num_rows, time.monotonic() - started, {})

    def ready(self) -> tuple[None, dict[str, Any]]:
        """Process id, once the process is up."""
        return None, {"pid": os.getpid()}
