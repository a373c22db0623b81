"""One split of a hub repository, read with the `datasets` library from the hub's own cache. Its settings are put back."""

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xpo_ray.errors import DatasetError
from xpo_ray.spec.data import HubSource

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_ROWS = 1000


@dataclass(frozen=True)
class HubPart:
    """A split that has been loaded."""

    name: str
    dataset: "Dataset"

    def columns(self, _enough: Callable[[Collection[str]], bool]) -> list[str]:
        """The names of its features."""
        return list(self.dataset.column_names)

    def rows(self, wanted: Collection[str] | None) -> Iterator[dict[str, object]]:
        """Rows in order, with those of the wanted columns that there are. Raises DatasetError."""
        names = [name for name in self.dataset.column_names if wanted is None or name in wanted]
        dataset = self.dataset.select_columns(names)
        for start in range(0, len(dataset), BATCH_ROWS):
            try:
                batch: dict[str, list[object]] = dataset[start : start + BATCH_ROWS]
            except UnicodeDecodeError as error:
                raise DatasetError(
                    f"{self.name}, rows {start} to {start + BATCH_ROWS}: not UTF-8: {error}; download the files, mend "
                    "them and use kind: files"
                ) from error
            for values in zip(*batch.values(), strict=True):
                yield dict(zip(batch, values, strict=True))

    def count(self) -> int | None:
        """Its length."""
        return len(self.dataset)

    @property
    def splits(self) -> list[str]:
        """All splits that its repository has."""
        return [str(split) for split in self.dataset.info.splits or ()]


def hub_parts(source: HubSource) -> Iterator[HubPart]:
    """A split of each repository, one after the other. Raises DatasetError."""
    for name in source.names:
        yield _repository(name, source)


def _repository(repository: str, source: HubSource) -> HubPart:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    name = f"{repository}[{source.split}]"
    if Path(repository).exists():
        raise DatasetError(
            f"data.source.name {repository!r} is also a folder here, which would be read instead of the hub; "
            "use kind: files for the folder, or start the run from elsewhere"
        )
    try:
        with _quiet():
            dataset = load_dataset(repository, source.config, split=source.split, revision=source.revision)
    except (DatasetsError, OSError, ValueError, TypeError, NotImplementedError) as error:
        raise DatasetError(
            f"hub dataset {name}: {_reason(error)}; check name, config, split, revision and the network (or download it "
            "and use kind: files)"
        ) from error
    if len(dataset) == 0:
        raise DatasetError(f"hub dataset {name}: no rows; choose another split")
    return HubPart(name, dataset)


def _reason(error: Exception) -> str:
    """The first cause, which is what the loader's own message leaves out."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return f"{type(cause).__name__}: {cause}".strip().rstrip(":")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no log lines of the `datasets` library; its settings are put back."""
    from datasets import config, disable_progress_bars, enable_progress_bars
    from datasets.utils import are_progress_bars_disabled
    from datasets.utils.logging import CRITICAL, get_verbosity, set_verbosity

    switch = config.HF_DATASETS_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled()
    verbosity = get_verbosity()
    set_verbosity(CRITICAL)
    if switch:
        disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if switch:
            enable_progress_bars()
