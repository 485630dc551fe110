"""Fixtures of the tests of live sessions."""

from pathlib import Path

import pytest

from firn.live import tick
from tick_folder import decide


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    Path("live").mkdir()
    decide()
    monkeypatch.setattr(tick, "TELL_S", 0.0)
    return tmp_path
