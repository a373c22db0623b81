"""`python -m xpo_ray.rehearsal`: one rehearsal. Reads a request from standard input; its last line is the verdict."""

import sys
import warnings

from xpo_ray.rehearsal.request import Request


def main() -> None:
    """Entry point."""
    warnings.simplefilter("ignore")
    from xpo_ray.rehearsal.trial import rehearsed

    print(rehearsed(Request.of_json(sys.stdin.read())).to_json())


if __name__ == "__main__":
    main()
