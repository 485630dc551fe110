"""A Slurm cluster of one machine for tests: munged, slurmctld and slurmd of the Debian packages slurm-wlm and munge, started as root.

Partitions, one for each lane if nothing else is asked for, and devices that are only counted. Nothing of it is left when the block ends.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

CONF = Path("/etc/slurm/slurm.conf")
GRES = Path("/etc/slurm/gres.conf")
LOCK = Path("/tmp/firn-test-slurm.lock")
LANES = ("cpu", "preprocess", "reconstruct")
DEVICES = 3
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
MARK = "# made by a test"
TEXT = """\
{mark}
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/d
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=300
KillWait=2
JobRequeue=0
OverTimeLimit=0
SlurmctldTimeout=10
SlurmdTimeout=10
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 Boards=1 SocketsPerBoard=1 CoresPerSocket=64 ThreadsPerCore=1 RealMemory=200000 Gres=gpu:{devices} State=UNKNOWN
"""
PARTITION = "PartitionName={name} Nodes={host} MaxTime=INFINITE State=UP Default={default}\n"


def why_not() -> str:
    """Why no cluster can be started here; empty when one can."""
    missing = [program for program in PROGRAMS if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin") is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    if os.getuid():
        return "only root can start Slurm"
    return f"{CONF} exists: this machine has a Slurm of its own" if CONF.exists() and not CONF.read_text().startswith(MARK) else ""


@contextmanager
def slurm_cluster(folder: Path, partitions: Sequence[str] = LANES, devices: int = DEVICES) -> Iterator[None]:
    """Slurm runs while the block does; one such block at a time on a machine. The first partition takes what names none."""
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if CONF.exists():
            _end(Path(CONF.read_text().partition("StateSaveLocation=")[2].partition("\n")[0]).parent)
        try:
            _start(folder, partitions, devices)
            yield
        finally:
            _end(folder)


def lose_node(folder: Path) -> None:
    """The machine of the cluster dies with all that runs on it."""
    below = [int((folder / "slurmd.pid").read_text())]
    steps = subprocess.run(["pgrep", "-x", "slurmstepd"], capture_output=True, text=True, check=False).stdout.split()
    below += [int(pid) for pid in steps]
    for pid in below:
        below += [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    for pid in dict.fromkeys(below):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _wait_for_state("down")


def mend_node() -> None:
    """The machine is back."""
    subprocess.run(["/usr/sbin/slurmd"], check=True)
    _wait_for_state("idle", "mixed", "allocated")


def queue() -> list[str]:
    """Jobs that run or wait: name, partition, state, devices."""
    return subprocess.run(["squeue", "-h", "-o", "%j %P %T %b"], capture_output=True, text=True, check=True).stdout.splitlines()


def finished() -> list[str]:
    """All jobs that Slurm remembers, as scontrol shows them, one line each."""
    return subprocess.run(["scontrol", "-o", "show", "jobs"], capture_output=True, text=True, check=True).stdout.splitlines()


def _start(folder: Path, partitions: Sequence[str], devices: int) -> None:
    for part in ("ctld", "d"):
        (folder / part).mkdir(parents=True)
    host = socket.gethostname().split(".")[0]
    CONF.parent.mkdir(exist_ok=True)
    queues = [PARTITION.format(name=name, host=host, default="YES" if name == partitions[0] else "NO") for name in partitions]
    CONF.write_text(TEXT.format(host=host, folder=folder, devices=devices, mark=MARK) + "".join(queues))
    for number in range(devices):
        (folder / f"gpu{number}").touch()
    GRES.write_text(f"NodeName={host} Name=gpu File={folder}/gpu[0-{devices - 1}]\n")
    _start_munged(folder)
    for program in ("slurmctld", "slurmd"):
        subprocess.run([f"/usr/sbin/{program}"], check=True)
    _wait_for_state("idle")


def _wait_for_state(*wanted: str) -> None:
    end = time.monotonic() + 60
    while (
        state := subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False).stdout.strip().rstrip("*")
    ) not in wanted:
        if time.monotonic() > end:
            raise TimeoutError(f"Slurm's node is {state}, not {' or '.join(wanted)}")
        time.sleep(0.2)


def _end(folder: Path) -> None:
    """Stop what a cluster started, be it of a test that was killed."""
    for name in ("slurmd", "slurmctld", "munged"):
        _stop(folder / f"{name}.pid")
    CONF.unlink(missing_ok=True)
    GRES.unlink(missing_ok=True)


def _start_munged(folder: Path) -> None:
    """Authentication with its socket where Slurm looks for it, unless it runs already."""
    if Path("/run/munge/munge.socket.2").exists() and subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
        return
    for path in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
        Path(path).mkdir(exist_ok=True)
        shutil.chown(path, "munge", "munge")
    subprocess.run(["runuser", "-u", "munge", "--", "/usr/sbin/munged"], check=True)
    shutil.copy("/run/munge/munged.pid", folder / "munged.pid")


def _stop(pid_file: Path) -> None:
    """End the program after which the file is named, if the number in it is still its own."""
    if not pid_file.exists():
        return
    process = Path("/proc", pid_file.read_text().strip())
    if not process.exists() or (process / "comm").read_text().strip() != pid_file.stem:
        return
    os.kill(int(process.name), signal.SIGTERM)
    end = time.monotonic() + 10
    while process.exists() and time.monotonic() < end:
        time.sleep(0.1)
