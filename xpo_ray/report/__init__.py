"""The report of a run: one HTML file that works offline, made from a finished, failed or running run folder.

`xpo-ray report` and the end of every run call `write_report`. Nothing here writes into a run beyond that one file.
"""

from xpo_ray.report.page import write_report

__all__ = ["write_report"]
