"""Programs of the users' own: found or missed with one sentence, run without a shell, with what they say in the log."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from firn.errors import InputError
from firn.families import outside
from firn.families.outside import find_one_of, find_program, record_program, run_program, version_of, version_said
from stand_in import write_program


def program(path: Path, body: str) -> str:
    return str(write_program(path, f"#!{sys.executable}\nimport os, sys\n{body}\n"))


def test_a_program_is_the_one_given_or_the_one_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = program(tmp_path / "thing", "")
    (tmp_path / "plain").write_text("no program")
    assert find_program("thing", None) == find_program("another", path) == path
    with pytest.raises(InputError, match="the program another is not on the PATH; install it"):
        find_program("another", None)
    with pytest.raises(InputError, match="is no program that can be run"):
        find_program("thing", str(tmp_path / "plain"))


def test_a_program_says_its_version_or_it_is_unknown(tmp_path: Path) -> None:
    assert version_of(program(tmp_path / "a", "print('THING 1.2')\nprint('more')")) == "THING 1.2"
    assert version_of(program(tmp_path / "b", "sys.exit(2)")) == "unknown"
    assert version_of(str(tmp_path / "none")) == "unknown"


def test_the_first_of_several_programs_that_is_there_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="none of the programs new, old is on the PATH; install one"):
        find_one_of(["new", "old"], None)
    old = program(tmp_path / "old", "")
    assert find_one_of(["new", "old"], None) == find_one_of(["new"], old) == old
    new = program(tmp_path / "new", "")
    assert find_one_of(["new", "old"], None) == new
    with pytest.raises(InputError, match="'nowhere' is no program"):
        find_one_of(["new", "old"], "nowhere")


@pytest.mark.parametrize(
    ("name", "line", "version"),
    [
        ("ctffind", "         Version : 4.1.14", "4.1.14"),
        ("a", "MotionCor3 version 1.2.1", "1.2.1"),
        ("Gctf-v1.18_b2_sm60_cu9.1", "pixels of 1.35", "1.18"),
        ("Gctf_v1.06_sm_30", "", "1.06"),
        ("b", "conversion 3.5", "unknown"),
    ],
)
def test_a_version_is_found_in_what_was_said_or_in_the_name(tmp_path: Path, name: str, line: str, version: str) -> None:
    assert version_said(program(tmp_path / name, ""), ["a word", line]) == version


def test_answers_are_read_and_nothing_is_when_there_are_none(tmp_path: Path) -> None:
    path, lines = program(tmp_path / "thing", "print(repr(sys.stdin.read()))"), list[str]()
    run_program([path], tmp_path, heard=lines.append, answers="yes\n0.5 µm\n")
    run_program([path], tmp_path, heard=lines.append)
    assert lines == ["'yes\\n0.5 µm\\n'", "''"]


class HandTimer:
    """A timer that goes off when a test says so."""

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        self.go_off = function
        HANDS.append(self)

    def start(self) -> None: ...

    def cancel(self) -> None: ...


HANDS: list[HandTimer] = []


def test_a_program_that_hangs_is_stopped_with_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "Timer", HandTimer)
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    path, lines = program(tmp_path / "thing", f"import subprocess\nsubprocess.run([sys.executable, '-c', {child!r}])"), list[str]()

    def heard(line: str) -> None:
        lines.append(line)
        HANDS[-1].go_off()

    with pytest.raises(InputError, match=r"thing: was stopped since it took longer than 7 s; its last line: \d+$"):
        run_program([path, "-a"], tmp_path, heard=heard, limit_s=7)
    while not _ended(int(lines[0])):
        time.sleep(0.05)


def test_a_program_is_stopped_by_the_clock_even_when_it_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"thing: was stopped since it took longer than 0.2 s; its last line: it said nothing$"):
        run_program([program(tmp_path / "thing", "import time\ntime.sleep(600)")], tmp_path, limit_s=0.2)


def test_arguments_come_as_they_are_and_all_that_is_said_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = program(tmp_path / "thing", "print(sys.argv[1:], os.getcwd())\nprint('half\\rwhole', file=sys.stderr)")
    folder = tmp_path / "a folder"
    folder.mkdir()
    with caplog.at_level(logging.INFO, logger="firn"):
        run_program([path, "do", "$HOME; rm *", "a b"], folder)
    said = [record.getMessage() for record in caplog.records]
    assert f"thing do: ['do', '$HOME; rm *', 'a b'] {folder}" in said
    assert {"thing do: half", "thing do: whole"} <= set(said)


def test_what_is_written_goes_into_a_file_where_one_is_named_and_what_is_said_into_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = program(tmp_path / "thing", "print('a table')\nprint('a word', file=sys.stderr)")
    with caplog.at_level(logging.INFO, logger="firn"):
        run_program([path, "do"], tmp_path, tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "a table\n"
    said = [record.getMessage() for record in caplog.records]
    assert "thing do: a word" in said
    assert "thing do: a table" not in said


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('first')\nprint('no GPU', file=sys.stderr)\nsys.exit(3)", "thing do: ended with exit code 3; its last line: no GPU$"),
        ("sys.exit(1)", "ended with exit code 1; its last line: it said nothing"),
        (f"os.kill(os.getpid(), {int(signal.SIGKILL)})", "thing do: was killed by signal 9"),
        ("raise RuntimeError('x' * 9999)", r"xxx \.\.\.$"),
        ("os.write(1, b'\\xff\\xfe bytes\\n')\nsys.exit(1)", "bytes$"),
    ],
)
def test_a_failure_is_one_sentence_with_the_last_line(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as told:
        run_program([program(tmp_path / "thing", body), "do"], tmp_path)
    assert "\n" not in str(told.value)


def test_a_file_that_is_no_program_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    path.write_bytes(os.urandom(64))
    path.chmod(0o755)
    with pytest.raises(InputError, match="thing do: cannot be started"):
        run_program([str(path), "do"], tmp_path)


def test_every_line_is_heard_and_the_environment_is_the_one_given(tmp_path: Path) -> None:
    path, lines = program(tmp_path / "thing", "print(os.environ['WORD'])\nprint('one\\rtwo')"), list[str]()
    run_program([path, "do"], tmp_path, heard=lines.append, environment={"WORD": "given"})
    assert lines == ["given", "one", "two"]


def test_a_record_tells_program_version_and_arguments(tmp_path: Path) -> None:
    path = program(tmp_path / "thing", "print('THING 1.2')")
    record_program(tmp_path / "thing.json", path, [[path, "a"], [path, "b", "c"]], ranks="3")
    told = json.loads((tmp_path / "thing.json").read_text())
    assert told == {"program": path, "version": "THING 1.2", "arguments": [["a"], ["b", "c"]], "ranks": "3"}


def test_a_program_ends_when_the_job_that_runs_it_is_killed(tmp_path: Path) -> None:
    path = program(tmp_path / "thing", "import time\nprint(os.getpid(), flush=True)\ntime.sleep(600)")
    told = tmp_path / "told"
    body = f"from pathlib import Path\nfrom firn.families.outside import run_program\nrun_program([{path!r}], Path({str(tmp_path)!r}), Path({str(told)!r}))"
    with subprocess.Popen([sys.executable, "-c", body], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as job:
        while not (told.exists() and told.read_text().endswith("\n")):
            assert job.poll() is None
            time.sleep(0.05)
        child = int(told.read_text())
        job.kill()
    while not _ended(child):
        time.sleep(0.05)


def _ended(process: int) -> bool:
    """Whether a process is gone, or is only remembered until its parent asks for it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
