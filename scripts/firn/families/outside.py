"""Programs of the users' own: found, named with their version, run in a job's folder, with all they say in the job's log.

Arguments are lists and no shell reads them, so that any letter may stand in a path. A program ends with the job that runs it, however
that ends, so that a job begun anew never works beside the program of one before it.
"""

import ctypes
import json
import logging
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO

from firn.errors import InputError, brief

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent ends."""
VERSION_S = 120
"""Longest wait for a program's version; one that imports much from a slow disk takes long."""


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


def record_program(path: Path, program: str, arguments: Sequence[Sequence[str]], **more: str) -> None:
    """Write which program of which version was run with which arguments, each time it was, as JSON."""
    record = {"program": program, "version": version_of(program), "arguments": [list(one[1:]) for one in arguments], **more}
    path.write_text(json.dumps(record, indent=1), encoding="utf-8")


def run_program(
    arguments: Sequence[str],
    folder: Path,
    output: Path | None = None,
    heard: Callable[[str], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program in a folder until it ends; each line it says goes into the log, standard output into a file where one is named.

    heard is called with each line that goes into the log. environment: of the program, that of this process when None.
    Raises InputError with the last line said when it cannot be started, fails or is killed.
    """
    name, log = " ".join([Path(arguments[0]).name, *arguments[1:2]]), logging.getLogger("firn")
    log.info("running %s", arguments)
    last = "it said nothing"
    with output.open("wb") if output else nullcontext() as stream, _started(name, arguments, folder, stream, environment) as process:
        try:
            for line in process.stdout or process.stderr or ():
                if line.strip():
                    last = line.strip()
                    log.info("%s: %s", name, last)
                    if heard:
                        heard(last)
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code:
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise InputError(f"{name}: {ended}; its last line: {brief(last)}")


def _started(
    name: str, arguments: Sequence[str], folder: Path, output: IO[bytes] | None, environment: Mapping[str, str] | None
) -> subprocess.Popen[str]:
    out, errors = (subprocess.PIPE, subprocess.STDOUT) if output is None else (output, subprocess.PIPE)
    prctl = ctypes.CDLL(None).prctl

    def end_with_parent() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    try:
        return subprocess.Popen(
            arguments,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            text=True,
            errors="replace",
            preexec_fn=end_with_parent,
        )
    except OSError as error:
        raise InputError(f"{name}: cannot be started ({brief(error)})") from error
