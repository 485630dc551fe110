"""One archive per failed job with all that somebody else needs to understand the failure, and nothing private.

Convention: the archive lies beside the job's log, `logs/<job>.error.zip`. It holds the error, the job's settings, the end of its log and of its
progress, the session's config, versions of all packages, a few words on the machine, and of the inputs names, sizes, records, the heads of
tables and the headers of maps, never their contents. Of the environment only what SHARED_VARIABLES names is told.
"""

import json
import os
import platform
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from firn.errors import InputError
from firn.formats.mrc_header import read_mrc_header
from firn.runtime.provenance import peak_memory_mb

STARTS = "starts with "
"""What the line of a job's log begins with that tells its settings and inputs."""
SHARED_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "FIRN_CACHE", "SLURM_JOB_ID", "SLURM_JOB_PARTITION",
    "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE",
)  # fmt: skip
LONGEST_LOG = 500_000
"""Bytes of a log's end that are kept."""
HEAD_LINES = 60
MOST_FILES = 200
TABLES, MAPS = (".star", ".csv"), (".mrc", ".mrcs")


@dataclass(frozen=True)
class Failure:
    """A job that failed: its log, name, what it was started with, and how it ended; config of the session where it is known."""

    log: Path
    job: str
    batch: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, list[str]] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


def archive_of(log: Path) -> Path:
    """Where the archive of a job lies, beside its log."""
    return log.with_suffix(".error.zip")


def starting_line(job: str, batch: str | None, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """The line of a job's log from which find_failure knows what it was started with."""
    return STARTS + json.dumps({"job": job, "batch": batch, "settings": dict(settings), "inputs": dict(inputs)}, default=str)


def write_error_report(failure: Failure) -> Path:
    """Write the archive, whole or not at all, and say where it lies."""
    destination = archive_of(failure.log)
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in _contents(failure):
                archive.writestr(name, text)
        os.replace(partial, destination)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return destination


def find_failure(job: str, batch: str | None = None, config: Mapping[str, Any] | None = None) -> Failure:
    """What the log of a job in the run folder tells; how it ended is the end of that log, and of the last log of Snakemake.

    Raises InputError when there is no such log.
    """
    log = Path("logs") / (f"{job}.log" if batch is None else f"{job}/batches/{batch}.log")
    if not log.exists():
        known = ", ".join(sorted(path.stem for path in Path("logs").glob("*.log"))) or "none"
        raise InputError(f"{log}: is not there, so nothing is known of the job {job}; jobs with a log: {known}")
    line = next((line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if STARTS in line), "")
    told = json.loads(line.partition(STARTS)[2]) if line else {}
    return Failure(log, job, batch, told.get("settings", {}), told.get("inputs", {}), config or {}, _last_words())


def _contents(failure: Failure) -> Iterator[tuple[str, str]]:
    """(name in the archive, text)."""
    told = {
        "job": failure.job,
        "type": failure.settings.get("type", ""),
        "batch": failure.batch,
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "settings": dict(failure.settings),
        "inputs": dict(failure.inputs),
    }
    yield "failure.json", _json(told)
    yield "error.txt", failure.error
    yield "machine.json", _json(_machine())
    yield "versions.txt", "".join(f"{line}\n" for line in _packages())
    yield "inputs.json", _json({folder: _described(Path(folder)) for folders in failure.inputs.values() for folder in folders})
    if failure.config:
        yield "session.json", _json(dict(failure.config))
    for path in (failure.log, failure.log.with_suffix(".jsonl"), failure.log.with_suffix(".tsv")):
        if path.exists():
            yield f"log/{path.name}", _end_of(path)


def _machine() -> dict[str, Any]:
    disk = shutil.disk_usage(Path.cwd())
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "peak_memory_mb": peak_memory_mb(),
        "disk_free_gb": round(disk.free / 1e9, 2),
        "disk_total_gb": round(disk.total / 1e9, 2),
        "devices": _devices(),
        "environment": {name: os.environ[name] for name in SHARED_VARIABLES if name in os.environ},
    }


def _devices() -> list[str]:
    import torch  # slow to import, and there already where a job failed

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [
        f"{torch.cuda.get_device_name(number)}, {torch.cuda.get_device_properties(number).total_memory / 2**30:.0f} GiB"
        for number in range(count)
    ]


def _packages() -> list[str]:
    return sorted({f"{found.metadata['Name']}=={found.version}" for found in metadata.distributions()}, key=str.lower)


def _described(folder: Path) -> dict[str, Any]:
    """Names and sizes of the files of an input, its record, heads of its tables, headers of its maps."""
    files = sorted(path for path in folder.glob("*") if path.is_file()) if folder.is_dir() else []
    record = folder / "job.json"
    return {
        "files": {path.name: path.stat().st_size for path in files[:MOST_FILES]},
        "record": json.loads(record.read_text(encoding="utf-8")) if record.exists() else None,
        "tables": {path.name: _head_of(path) for path in files if path.suffix in TABLES},
        "maps": {path.name: _header_of(path) for path in files if path.suffix in MAPS},
    }


def _head_of(path: Path) -> list[str]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        return [line.rstrip("\n")[:300] for line, _ in zip(lines, range(HEAD_LINES), strict=False)]


def _header_of(path: Path) -> str:
    try:
        header = read_mrc_header(path)
    except InputError as error:
        return str(error)
    return f"mode {header.mode}, {header.nx} x {header.ny} x {header.nz}, pixels of {header.pixel_size} Å, axes {header.axes}"


def _last_words() -> str:
    """The end of the last log of Snakemake."""
    logs = sorted(Path(".snakemake/log").glob("*.snakemake.log"))
    return _end_of(logs[-1]) if logs else ""


def _end_of(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - LONGEST_LOG))
        return stream.read().decode("utf-8", errors="replace")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"
