"""Options that several commands have. Imported when the shell starts: nothing heavy here."""

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
RunId = Annotated[str, typer.Argument(help="Id of a run.", metavar="RUN")]
Limit = Annotated[int, typer.Option(help="At most so many.", min=1)]
Priority = Annotated[int | None, typer.Option(help="-100 to 100; higher goes first.", min=-100, max=100)]
Notes = Annotated[
    list[str] | None, typer.Option("--metadata", help="A note of yours, several times.", metavar="KEY=VALUE")
]
Cpus = Annotated[float | None, typer.Option(help="CPUs that the run holds while it runs.")]
Gpus = Annotated[float | None, typer.Option(help="GPUs.")]
MemoryGib = Annotated[float | None, typer.Option(help="Memory.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Change one key: training.learning_rate=1e-5", metavar="KEY=VALUE")
]
Follow = Annotated[bool, typer.Option("--follow", help="Show its progress to its end.")]
