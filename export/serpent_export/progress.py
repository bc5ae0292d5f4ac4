"""How long calls say what they are doing."""

from collections.abc import Callable

StageCallback = Callable[[str], None]
"""Called with what is being done, such as "exporting the graph"."""


def silent(_: str) -> None:
    """A :data:`StageCallback` for callers who do not want to know."""
