"""The `xpo-ray` command: the one room above all layers. A heavy module is imported by the command that needs it."""

from xpo_ray.cli.app import main

__all__ = ["main"]
