"""What a model drew, on a terminal: untrusted text, shown without any of its control characters."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from xpo_ray.cli.plain_text import line, plain
from xpo_ray.wire.artifacts import SampleView

FACTS = ("role", "origin", "score", "tokens")


def show_samples(samples: Sequence[SampleView]) -> None:
    """Prompt, then each candidate under a heading of its own."""
    console = Console(highlight=False, soft_wrap=True)
    for sample in samples:
        console.print(Text(f"row {sample.row}, iteration {sample.iteration}", style="bold"))
        for message in sample.prompt:
            console.print(Text(f"{line(message.get('role', ''))}: {plain(message.get('content', ''))}"))
        for candidate in sample.candidates:
            facts = [f"{name} {line(candidate[name])}" for name in FACTS if candidate.get(name) is not None]
            console.print(Text(f"  ── {', '.join(facts)}", style="cyan"))
            console.print(Text(f"  {plain(candidate.get('text', ''))}"))
        if sample.note is not None:
            console.print(Text(f"  {line(sample.note)}", style="yellow"))
        console.print()
