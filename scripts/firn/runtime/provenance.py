"""What a job leaves in job.json besides its numbers: versions, inputs as they were, seconds and memory."""

import platform
import re
import resource
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import firn

PEAK = re.compile(rb"VmHWM:\s+(\d+) kB")
PACKAGES = ("torch", "numpy", "scipy", "pandas", "mrcfile", "tifffile", "imagecodecs", "snakemake")


def versions() -> dict[str, str]:
    """Versions of firn, Python and the packages the numbers depend on."""
    return {"firn": firn.__version__, "python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def describe_inputs(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Path, bytes and modification time of each input's job.json or file that exists."""
    return [{"path": str(path), "bytes": path.stat().st_size, "modified": path.stat().st_mtime} for path in paths if path.exists()]


def peak_memory_mb() -> float:
    """Peak resident memory of this program in MB; unlike ru_maxrss without that of the one which started it."""
    status = Path("/proc/self/status")
    found = PEAK.search(status.read_bytes()) if status.exists() else None
    return round((int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024, 1)
