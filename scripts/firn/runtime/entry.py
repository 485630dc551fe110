"""The door between Snakemake and a job: log, device, staging folder, job.json; nothing appears unless all succeeded."""

import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from firn.errors import InputError
from firn.runtime.atomic import publish, write_json
from firn.runtime.cache import cached_reading
from firn.runtime.checkpoint import Checkpoint
from firn.runtime.devices import check_memory, lease_devices, saying_out_of_memory
from firn.runtime.error_report import Failure, starting_line, write_error_report
from firn.runtime.job import Job, warn_into
from firn.runtime.memory import keep_freed_memory, spare_imported
from firn.runtime.params import JobParams, Lane, validated
from firn.runtime.progress import Progress
from firn.runtime.provenance import describe_inputs, peak_memory_mb, versions
from firn.runtime.ranks import Task, joined_ranks


@contextmanager
def enter(snakemake: Any, params_class: type[JobParams]) -> Iterator[Job]:
    """Run the body as one job of a Snakemake rule.

    An InputError ends the process with its one sentence; any other error keeps its traceback. Both name the archive that tells of it.
    """
    log_to(Path(snakemake.log[0]))
    home = Path(snakemake.output.json).parent
    wildcards = dict(snakemake.wildcards.items())
    started = (wildcards["job"], wildcards.get("batch"), snakemake.params.settings, snakemake.params.inputs)
    logging.getLogger("firn").info(starting_line(*started))
    try:
        with open_job(
            params_class,
            snakemake.params.settings,
            snakemake.params.inputs,
            home,
            wildcards["job"],
            wildcards.get("batch"),
            snakemake.threads,
        ) as job:
            yield job
    except InputError as error:
        logging.getLogger("firn").error(error)
        sys.exit(f"job {wildcards['job']} ({snakemake.params.settings['type']}): {error}\n{_report_failure(snakemake, *started)}")
    except Exception as error:
        logging.getLogger("firn").exception(error)
        error.add_note(_report_failure(snakemake, *started))
        raise


def _report_failure(snakemake: Any, name: str, batch: str | None, settings: dict[str, Any], inputs: Any) -> str:
    """Write the archive of a failure; what to tell of it. A fault on the way must not hide the failure itself."""
    found = {slot: list(folders) for slot, folders in dict(inputs).items()}
    try:
        failure = Failure(Path(snakemake.log[0]), name, batch, settings, found, dict(snakemake.config), traceback.format_exc())
        return f"What happened is packed in {write_error_report(failure)}"
    except Exception as fault:  # whatever goes wrong here, the job's own error is the one to tell
        return f"No error report could be written: {fault}"


@contextmanager
def open_job(
    params_class: type[JobParams],
    settings: dict[str, Any],
    inputs: dict[str, list[str]],
    home: Path,
    name: str,
    batch: str | None = None,
    threads: int | None = None,
    lane: Lane | None = None,
) -> Iterator[Job]:
    """Run the body as a job without Snakemake: tests, benchmarks and notebooks use this.

    settings: parameters, with slots as named in the config; inputs: slot to folders relative to the working directory; lane: whose device it
    takes, that of its type when not given.
    """
    start = time.monotonic()
    keep_freed_memory()
    spare_imported()
    staging = _fresh_staging(home)
    params = validated(params_class, settings)
    cores, count = threads or os.cpu_count() or 1, getattr(params, "devices", 1)
    torch.set_num_threads(max(1, cores // count))
    log = Path("logs") / home.relative_to("results") if home.is_relative_to("results") else home.with_name(home.name + "_log")
    warnings: list[str] = []
    with cached_reading(params_class, inputs, partial(warn_into, warnings)):
        devices = lease_devices(lane or params_class.lane, count)
        task = Task(params_class.__module__, settings, _paths(inputs), str(home), name, batch, torch.get_num_threads())
        with joined_ranks(task, devices if params_class.ranked else devices[:1]) as ranks:
            job = Job(
                name=name,
                params=params,
                inputs={slot: [Path(path) for path in paths] for slot, paths in inputs.items()},
                folder=staging,
                home=home,
                seed=int(settings.get("seed", 0)),
                device=devices[0],
                devices=tuple(devices),
                warnings=warnings,
                progress=Progress(log.with_suffix(".jsonl"), name if batch is None else f"{name}/{batch}"),
                ranks=ranks,
                batch=batch,
                threads=cores,
                checkpoint=Checkpoint(home.with_name(f".{home.name}.state"), [settings, versions(), _described(inputs)]),
            )
            for device in devices:
                check_memory(params_class.gpu_gb, inputs, device, job.warn)
            with torch.inference_mode(), saying_out_of_memory(job.device):
                yield job
    (staging / "figures").mkdir(exist_ok=True)
    write_json(staging / "job.json", _record(job, settings, time.monotonic() - start))
    publish(staging, home, last="job.json", groups=params_class.groups)
    job.checkpoint.clear()


def _paths(inputs: Mapping[str, Sequence[str | Path]]) -> dict[str, list[str]]:
    return {slot: [str(path) for path in paths] for slot, paths in inputs.items()}


def _fresh_staging(home: Path) -> Path:
    staging = home.with_name(f".{home.name}.partial")
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    return staging


def _record(job: Job, settings: dict[str, Any], seconds: float) -> dict[str, Any]:
    return {
        "job": job.name,
        "type": settings.get("type", ""),
        "batch": job.batch,
        "settings": dict(settings),
        "inputs": _described(job.inputs),
        "versions": versions(),
        "seed": job.seed,
        "device": str(job.device),
        "threads": job.threads,
        "seconds": round(seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
        "metrics": job.metrics,
        "figures": job.figures,
        "warnings": job.warnings,
        "batches": job.batches,
    }


def _described(inputs: Mapping[str, Sequence[str | Path]]) -> list[dict[str, Any]]:
    return describe_inputs(Path(folder) / "job.json" for folders in inputs.values() for folder in folders)


def log_to(path: Path) -> None:
    """Start a job's log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=path, filemode="w", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True)
