"""Whatever becomes of a file, reading it ends with a value or with one sentence, soon and in little memory.

benchmarks/fuzz.py does the same for as long as one likes, each reader in a process of its own.
"""

import logging
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from firn.errors import InputError
from formats.fuzz_damage import BYTE_KINDS, TEXT_KINDS, Step
from formats.fuzz_readers import READERS, SESSION, Reader, outcome, read_session, sound_bytes, try_one

MEMORY = 1.5 * 2**30
CPU_S = 20
LONGEST_LINE = 2000
"""A hint may name all job types."""
WITHOUT_END = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)


class Hung(BaseException):
    """Nothing that reads a file catches it."""


def steps_of(kinds: tuple[str, ...]) -> st.SearchStrategy[list[Step]]:
    place = st.floats(0, 1, exclude_max=True)
    return st.lists(st.tuples(st.sampled_from(sorted(set(kinds))), place, place, st.integers(0, 10**6)), min_size=1, max_size=4)


@contextmanager
def bounded() -> Iterator[None]:
    """An error, instead of a hang or a full memory; time is the process's own, whatever else the machine does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hung(f"more than {CPU_S} s of CPU")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_AS, (int(own + MEMORY), hard))
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGPROF, before)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_sound_file_is_read(tmp_path: Path, reader: Reader) -> None:
    data = sound_bytes(reader, tmp_path)
    (tmp_path / reader.file).write_bytes(reader.pack(data) if reader.pack else data)
    assert outcome(reader, tmp_path / reader.file) == "read"


def try_damaged(reader: Reader, folder: Path, steps: list[Step]) -> None:
    data = sound_bytes(reader, folder)
    with bounded():
        try_one(reader, folder / reader.file, data, steps)


@pytest.mark.parametrize("reader", [reader for reader in READERS if not reader.text], ids=lambda reader: reader.name)
@WITHOUT_END
@given(steps=steps_of(BYTE_KINDS))
def test_damaged_bytes_end_in_a_value_or_in_one_sentence(tmp_path: Path, reader: Reader, steps: list[Step]) -> None:
    try_damaged(reader, tmp_path, steps)


@pytest.mark.parametrize("reader", [reader for reader in READERS if reader.text], ids=lambda reader: reader.name)
@WITHOUT_END
@given(steps=steps_of(TEXT_KINDS))
def test_damaged_text_ends_in_a_value_or_in_one_sentence(tmp_path: Path, reader: Reader, steps: list[Step]) -> None:
    try_damaged(reader, tmp_path, steps)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates() | st.binary(max_size=5)
words = st.sampled_from(
    ["jobs", "type", "exposures", "movies", "files", "seed", "import_movies", "patch_ctf", "ctf", "particles", "class_1", "a.b"]
)
keys = words | scalars
values = st.recursive(scalars | words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8)
SETTINGS = [(job, key) for job, given_ in yaml.safe_load(SESSION)["jobs"].items() for key in given_]


def judged(config: dict[str, Any]) -> None:
    """A session, or sentences that each say where."""
    with bounded():
        said = sentences_about(config)
    assert all(line.startswith("config: ") and len(line) < LONGEST_LINE for line in said)


def sentences_about(config: dict[str, Any]) -> list[str]:
    try:
        read_session(config)
    except InputError as error:
        return str(error).split("\n")
    return []


@settings(WITHOUT_END, max_examples=150)
@given(config=st.dictionaries(keys, values, max_size=3) | st.fixed_dictionaries({"jobs": st.dictionaries(keys, values, max_size=3)}))
def test_any_content_of_a_config_is_a_session_or_sentences(config: dict[str, Any]) -> None:
    judged(config)


@settings(WITHOUT_END, max_examples=150)
@given(
    changes=st.lists(st.tuples(st.sampled_from(SETTINGS), st.sampled_from(["set", "drop", "add"]), keys, values), min_size=1, max_size=3)
)
def test_a_session_with_any_change_is_a_session_or_sentences(changes: list[tuple[tuple[str, str], str, Any, Any]]) -> None:
    config = yaml.safe_load(SESSION)
    for (job, key), kind, other, value in changes:
        if kind == "drop":
            config["jobs"][job].pop(key, None)
        else:
            config["jobs"][job][key if kind == "set" else other] = value
    judged(config)
