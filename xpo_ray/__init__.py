"""Iterative online preference optimisation on Ray: SELM, XPO, iterative and online DPO."""

__version__ = "0.1.0"
