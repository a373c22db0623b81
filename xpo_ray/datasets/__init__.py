"""Datasets: from files or a hub repository to examples, whatever the format. Importing this loads no heavy library.

The driver reads examples to make prompt tables; validation reads them to refuse bad input. Nothing here tokenises.
"""

from xpo_ray.datasets.example import Example
from xpo_ray.datasets.reading import read_examples

__all__ = ["Example", "read_examples"]
