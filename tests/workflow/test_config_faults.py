"""A fault in the config is one line before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from workflow.session import run, write_session

JOBS: dict[str, dict[str, Any]] = {
    "micrographs": {"type": "import_micrographs", "files": "*.mrc", "pixel_size": 1.5, "voltage_kv": 300, "cs_mm": 2.7},
    "ctf": {"type": "patch_ctf", "exposures": "micrographs"},
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ctf": {"type": "patch_ctf", "exposures": "micrographs", "max_resolutoin": 5}}, "did you mean 'max_resolution'?"),
        (
            {"ctf": {"type": "patch_ctf", "exposures": "micrographs.picks"}},
            "config: jobs.ctf.exposures: job 'micrographs' (import_micrographs) has no output",
        ),
        ({"ctf": {"type": "curate_exposures", "exposures": "ctf"}}, "config: jobs go in a circle: ctf -> ctf"),
        ({"ctf": {"type": "patchctf", "exposures": "micrographs"}}, "config: jobs.ctf.type: there is no job type 'patchctf'"),
    ],
    ids=["typo", "wrong slot", "cycle", "unknown type"],
)
def test_a_config_fault_is_one_line_and_nothing_runs(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    write_session(tmp_path, JOBS | changes)
    code, text = run(tmp_path)
    said = [line for line in text.splitlines() if line.strip()]
    assert code != 0
    assert sentence in said[-1]
    assert not [line for line in said if "Traceback" in line or "rule" in line.lower()]
    assert not (tmp_path / "results").exists()
