"""The `xpo-ray` command: the one room that stands above all layers. Heavy modules are imported by the command that needs them."""

from xpo_ray.cli.app import main

__all__ = ["main"]
