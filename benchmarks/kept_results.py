"""Results of programs that a benchmark ran in its folder, kept there so that another program can be run beside them later."""

import json
from collections.abc import Callable
from pathlib import Path


def once(name: str, run: Callable[[], tuple[Path | float, ...]]) -> list[str | float]:
    """What a run found, paths as text, or what it had found when it was run in the same folder before."""
    done = Path(f"{name}.json")
    if not done.exists():
        done.write_text(json.dumps([str(part) if isinstance(part, Path) else part for part in run()]))
    found: list[str | float] = json.loads(done.read_text())
    return found
