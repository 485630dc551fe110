"""Programs that tests write, to be run in the place of others."""

import stat
from pathlib import Path


def write_program(path: Path, text: str) -> Path:
    """Write a program, whose first line names what runs it; its absolute path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path.absolute()
