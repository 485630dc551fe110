"""Whether an installation can do its work: packages, job types, the run folder's disk, the cache, every device of every lane, and one real session."""

import fcntl
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from firn.errors import InputError, brief
from firn.formats.mrc import write_volume
from firn.kernels.fourier import irfft3, rfft3
from firn.runtime.cache import cache_folder
from firn.runtime.leases import devices_of, visible_devices
from firn.runtime.schema import job_types, schema_text
from firn.upkeep.disk import measure_disk
from firn.upkeep.sizes import spoken_bytes

LANES = ("preprocess", "reconstruct", "auxiliary")
SESSION = "seed: 1\njobs:\n  map: {type: import_volume, map: ball.mrc}\n  mask: {type: make_mask, volume: map}\n"
SIDE = 32
MATRIX = 1024
TOLERANCES = {torch.float32: 1e-4, torch.float16: 1e-2}
"""Largest error of a product of matrices against that in double precision, relative to its largest value."""
LAUNCH_S = 300


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it is as it should be (None: not there, and not needed), and what was found."""

    name: str
    good: bool | None
    told: str


def findings(root: Path, run: Path) -> Iterator[Finding]:
    """Every check in turn, so that each can be told when it is done; root: of the installation, run: folder in which sessions run."""
    checks: list[tuple[str, Callable[[], str | None]]] = [
        ("packages", lambda: check_packages(root / "envs" / "requirements.lock")),
        ("job types", lambda: check_job_types(root)),
        ("run folder", lambda: check_folder(run)),
        ("cache", lambda: check_cache(run)),
        *((f"devices of lane {lane}", lambda lane=lane: check_lane(lane, run)) for lane in LANES),
        ("a session through Snakemake", lambda: check_launch(root)),
    ]
    for name, check in checks:
        try:
            told = check()
            yield Finding(name, None if told is None else True, told or "none, and none needed")
        except (InputError, OSError, RuntimeError, ImportError) as error:
            yield Finding(name, False, brief(error))


def check_packages(lock: Path) -> str:
    """That every package of the lock file is there in its version."""
    pins = [line.partition("==") for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line and not line.startswith("#")]
    wrong = [f"{name} {found or 'missing'} instead of {version}" for name, _, version in pins if (found := _version(name)) != version]
    if wrong:
        raise InputError(f"{len(wrong)} packages are not as in {lock.name}: {', '.join(wrong)}")
    return f"{len(pins)} as in {lock.name}, Python {sys.version.split()[0]}"


def check_job_types(root: Path) -> str:
    """That every job type can be imported, has its door, and is as config/schema.json says."""
    types = job_types()
    shut = [name for name in types if not (root / "scripts" / f"{name}.py").exists()]
    for name in types:
        importlib.import_module(f"firn.jobs.{name}").run  # noqa: B018, an AttributeError would say it
    if shut:
        raise InputError(f"no door in scripts: {', '.join(shut)}")
    if (root / "config" / "schema.json").read_text(encoding="utf-8") != schema_text():
        raise InputError("config/schema.json is stale; run make schema")
    return f"{len(types)} can be started"


def check_folder(run: Path) -> str:
    """That the disk of the run folder renames whole files, keeps links and locks, and what it is given."""
    run.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run, prefix=".firn_check_", suffix=".tmp") as place:
        first, second, link = (Path(place) / name for name in ("first", "second", "link"))
        first.write_text("whole", encoding="utf-8")
        os.replace(first, second)
        link.symlink_to("second")
        with link.open(encoding="utf-8") as one, second.open(encoding="utf-8") as other:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                raise InputError(f"{run}: its file system does not keep locks (flock), by which devices and the cache are shared")
        speed = measure_disk(Path(place), 64)
    if not speed.intact:
        raise InputError(f"{run}: did not give back what was written to it")
    return f"writes {speed.write:.0f} MB/s, reads {speed.read:.0f} MB/s, {spoken_bytes(shutil.disk_usage(run).free)} free"


def check_cache(run: Path) -> str | None:
    """That the cache folder can be written and is no slower than the run folder is to read from; None without a cache."""
    folder = cache_folder(os.environ)
    if folder is None:
        return None
    speed, own = measure_disk(folder, 128), measure_disk(run, 64)
    if not speed.intact:
        raise InputError(f"{folder}: did not give back what was written to it")
    slower = "; single images come slower than from the run folder" if speed.random < own.random else ""
    return f"{folder}: writes {speed.write:.0f} MB/s, single images at {speed.random:.0f} MB/s, {spoken_bytes(shutil.disk_usage(folder).free)} free{slower}"


def check_lane(lane: str, run: Path) -> str | None:
    """That each device of a lane multiplies and transforms as it should; None without devices."""
    if not torch.cuda.is_available():
        return None
    visible = visible_devices(os.environ, torch.cuda.device_count())
    numbers = devices_of(lane, run / "lanes.yaml", len(visible))
    if not numbers:
        return None
    return ", ".join(check_device(torch.device("cuda", number)) for number in numbers)


def check_device(device: torch.device) -> str:
    """That products of matrices and Fourier transforms on a device agree with double precision on the CPU; its name and memory."""
    chance = torch.Generator().manual_seed(1)
    first, second = (torch.rand(MATRIX, MATRIX, generator=chance) - 0.5 for _ in range(2))
    exact = first.double() @ second.double()
    for kind, tolerance in TOLERANCES.items():
        if kind == torch.float16 and device.type == "cpu":
            continue
        made = (first.to(device, kind) @ second.to(device, kind)).double().cpu()
        error = float((made - exact).abs().max() / exact.abs().max())
        if not error < tolerance:
            raise InputError(f"{device}: a product of matrices in {kind} is off by {error:.2g}, more than {tolerance:g}")
    volume = first[: SIDE * SIDE, :SIDE].reshape(SIDE, SIDE, SIDE).to(device)
    back = float((irfft3(rfft3(volume), (SIDE, SIDE, SIDE)) - volume).abs().max())
    if not back < TOLERANCES[torch.float32]:
        raise InputError(f"{device}: a Fourier transform there and back is off by {back:.2g}")
    if device.type == "cpu":
        return "cpu"
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)"


def check_launch(root: Path) -> str:
    """That Snakemake starts jobs of a small session and ends with a report."""
    program = shutil.which("snakemake", path=str(Path(sys.executable).parent)) or "snakemake"
    with tempfile.TemporaryDirectory(prefix="firn_check_") as place:
        folder = Path(place)
        z, y, x = np.indices((SIDE, SIDE, SIDE)) - SIDE // 2
        write_volume(folder / "ball.mrc", np.exp(-(z**2 + y**2 + x**2) / 40).astype(np.float32), 2.0)
        (folder / "session.yaml").write_text(SESSION, encoding="utf-8")
        command = [program, "--snakefile", str(root / "Snakefile"), "--profile", str(root / "profiles" / "local"), "--quiet"]
        command += ["--configfile", str(folder / "session.yaml"), "--directory", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LAUNCH_S)
        if done.returncode or not (folder / "results" / "report.pdf").exists():
            raise InputError(f"Snakemake ended with code {done.returncode}: {(done.stdout + done.stderr)[-400:]}")
    return "two jobs and their report"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
