"""Programs of the users' own: found, named with their version, run in a job's folder, with all they say in the job's log.

Arguments are lists and no shell reads them, so that any letter may stand in a path. A program ends with the job that runs it, however
that ends, so that a job begun anew never works beside the program of one before it.
"""

import ctypes
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Event, Timer
from typing import IO

from firn.errors import InputError, brief

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent ends."""
VERSION_S = 120
"""Longest wait for a program's version; one that imports much from a slow disk takes long."""
VERSION = re.compile(r"\bversion\s*:?\s*v?(\d+(?:\.\w+)+)|\bv(\d+(?:\.\w+)+)", re.IGNORECASE)


def find_one_of(names: Sequence[str], given: str | None) -> str:
    """Absolute path of the program given, or else of the first of the names that is on the PATH; raises InputError when there is none."""
    if given is None and not any(shutil.which(name) for name in names):
        raise InputError(f"none of the programs {', '.join(names)} is on the PATH; install one, or give its path as executable")
    return find_program(next((name for name in names if shutil.which(name)), names[0]), given)


def find_program(name: str, given: str | None) -> str:
    """Absolute path of the program: the one given, or else the one of that name on the PATH; raises InputError when there is none."""
    found = shutil.which(given or name)
    if found is None and given:
        raise InputError(f"executable: '{brief(given)}' is no program that can be run")
    if found is None:
        raise InputError(f"the program {name} is not on the PATH; install it, or give its path as executable")
    return str(Path(found).absolute())


def version_of(program: str) -> str:
    """First line that the program says when asked for its version; `unknown` when it says none."""
    with suppress(OSError, subprocess.TimeoutExpired):
        asked = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_S,
            check=False,
        )
        lines = [line.strip() for line in (asked.stdout + asked.stderr).splitlines() if line.strip()]
        if asked.returncode == 0 and lines:
            return brief(lines[0])
    return "unknown"


def version_said(program: str, lines: Sequence[str]) -> str:
    """Version that a program names among what it said, such as `Version : 4.1.14`, or that its file name holds; else `unknown`."""
    found = next((match for line in (*lines, Path(program).resolve().name.replace("_", " ")) if (match := VERSION.search(line))), None)
    return "unknown" if found is None else found.group(1) or found.group(2)


def record_program(path: Path, program: str, arguments: Sequence[Sequence[str]], **more: str) -> None:
    """Write which program of which version was run with which arguments, each time it was, as JSON."""
    version = more.get("version") or version_of(program)
    record = {"program": program, "version": version, "arguments": [list(one[1:]) for one in arguments], **more}
    path.write_text(json.dumps(record, indent=1), encoding="utf-8")


def run_program(
    arguments: Sequence[str],
    folder: Path,
    output: Path | None = None,
    heard: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
    answers: str = "",
    limit_s: float | None = None,
) -> None:
    """Run a program in a folder until it ends; each line it says goes into the log, standard output into a file where one is named.

    heard is called with each line that goes into the log. environment: of the program, that of this process when None. answers: what it
    reads from standard input. Raises InputError with the last line said when it cannot be started, fails, is killed, or takes longer than
    limit_s (s), when it is stopped with all that it started.
    """
    name = " ".join([Path(arguments[0]).name, *(word for word in arguments[1:2] if not word.startswith("-"))])
    log = logging.getLogger("firn")
    log.info("running %s", arguments)
    last = "it said nothing"
    with (
        output.open("wb") if output else nullcontext() as stream,
        _started(name, arguments, folder, stream, environment, answers) as process,
        _stopped_after(process, limit_s) as stopped,
    ):
        try:
            for line in process.stdout or process.stderr or ():
                if line.strip():
                    last = line.strip()
                    log.info("%s: %s", name, last)
                    if heard:
                        heard(last)
            code = process.wait()
        except BaseException:
            _stop(process)
            raise
    if stopped.is_set():
        raise InputError(f"{name}: was stopped since it took longer than {limit_s:g} s; its last line: {brief(last)}")
    if code:
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise InputError(f"{name}: {ended}; its last line: {brief(last)}")


@contextmanager
def _stopped_after(process: subprocess.Popen[str], limit_s: float | None) -> Iterator[Event]:
    """Stop a process that is not done after a time; the event tells that it was."""
    stopped = Event()

    def stop() -> None:
        stopped.set()
        _stop(process)

    timer = Timer(limit_s or 0.0, stop)
    if limit_s is not None:
        timer.start()
    try:
        yield stopped
    finally:
        timer.cancel()


def _stop(process: subprocess.Popen[str]) -> None:
    """Kill a process and those that it started, which are of its group unless they left it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _started(
    name: str, arguments: Sequence[str], folder: Path, output: IO[bytes] | None, environment: Mapping[str, str] | None, answers: str
) -> subprocess.Popen[str]:
    out, errors = (subprocess.PIPE, subprocess.STDOUT) if output is None else (output, subprocess.PIPE)
    prctl = ctypes.CDLL(None).prctl

    def end_with_parent() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    try:
        with tempfile.TemporaryFile() as spoken:
            spoken.write(answers.encode())
            spoken.seek(0)
            return subprocess.Popen(
                arguments,
                cwd=folder,
                env=environment,
                stdin=spoken,
                stdout=out,
                stderr=errors,
                text=True,
                errors="replace",
                process_group=0,
                preexec_fn=end_with_parent,
            )
    except OSError as error:
        raise InputError(f"{name}: cannot be started ({brief(error)})") from error
