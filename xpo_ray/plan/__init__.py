"""The plan: what a run will cost at most, from the spec and file metadata alone, without torch, transformers or datasets.

`xpo-ray validate` and POST /runs/validate show it before anything starts. Every number is an upper bound: prompts that are
too long or cannot be judged only make it smaller. Nothing here reads a weight or a row.
"""

from xpo_ray.plan.planning import Plan, plan
from xpo_ray.plan.table import render

__all__ = ["Plan", "plan", "render"]
