"""The plan: what a run will cost at most, from the spec and file metadata alone, without torch, transformers or datasets.

`xpo-ray validate` and POST /runs/validate show it before anything starts. Every number is an upper bound: prompts that are
too long or cannot be judged only make it smaller; of memory the plan also says what is certain, and refuses a run of which that
does not fit. Nothing here reads a weight or a row.
"""

from xpo_ray.plan.machine import Machine, this_machine
from xpo_ray.plan.planning import Plan, check_fits, local_store, machine_of, plan
from xpo_ray.plan.table import render

__all__ = ["Machine", "Plan", "check_fits", "local_store", "machine_of", "plan", "render", "this_machine"]
