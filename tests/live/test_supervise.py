"""The supervisor leaves room for the tick where jobs run on this machine, and keeps out of it elsewhere."""

from pathlib import Path

import pytest

from firn.live.supervise import LIVE_CORES, spare_cores

ROOT = Path(__file__).resolve().parents[2]


def test_a_full_workstation_never_keeps_the_tick_waiting() -> None:
    assert spare_cores(["snakemake", "--profile", str(ROOT / "profiles/local")]) == ["--cores", str(LIVE_CORES)]
    assert spare_cores(["snakemake"]) == ["--cores", str(LIVE_CORES)]


def test_a_cluster_counts_its_own_cores() -> None:
    assert spare_cores(["snakemake", "--profile", str(ROOT / "profiles/slurm")]) == []


@pytest.mark.parametrize("given", ["--cores", "-c", "--jobs", "-j"])
def test_what_the_user_says_of_cores_holds(given: str) -> None:
    assert spare_cores(["snakemake", given, "3"]) == []
