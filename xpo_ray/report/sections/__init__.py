"""The sections of the report, top down. Each is a function of a run, and of the run it is held against, if there is one."""

from collections.abc import Callable

from xpo_ray.report.blocks import Section
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.sections.distributions import distributions
from xpo_ray.report.sections.headline import headline
from xpo_ray.report.sections.implicit import implicit
from xpo_ray.report.sections.judging import judging
from xpo_ray.report.sections.provenance import provenance
from xpo_ray.report.sections.responses import responses
from xpo_ray.report.sections.reward import reward
from xpo_ray.report.sections.samples import samples
from xpo_ray.report.sections.throughput import throughput
from xpo_ray.report.sections.training import training

MakeSection = Callable[[RunFolder, RunFolder | None], Section]
SECTIONS: tuple[MakeSection, ...] = (
    headline,
    reward,
    distributions,
    implicit,
    responses,
    training,
    throughput,
    judging,
    samples,
    provenance,
)

__all__ = ["SECTIONS", "MakeSection"]
