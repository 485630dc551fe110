"""A file or folder appears whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text as write_bytes writes."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside, fsync, rename; when that fails, as on a full disk, nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; NaN and infinity are refused, since no other reader accepts them."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def publish(staging: Path, final: Path, last: str, groups: Iterable[str] = ()) -> None:
    """Move everything in staging into final, replacing what is there, the file named last at the end; staging is removed.

    groups: patterns of folders such as `class_*`, of which those that staging lacks are removed.
    """
    final.mkdir(parents=True, exist_ok=True)
    (final / last).unlink(missing_ok=True)
    for former in [path for pattern in groups for path in final.glob(pattern) if not (staging / path.name).exists()]:
        shutil.rmtree(former)
    entries = sorted(staging.iterdir(), key=lambda entry: entry.name == last)
    for entry in entries:
        target = final / entry.name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        os.replace(entry, target)
    staging.rmdir()
