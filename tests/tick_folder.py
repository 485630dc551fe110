"""A run folder whose ticks a test turns by hand: plan, results of batches, and what the session says of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from firn.formats.ids import exposure_id
from firn.formats.tables import write_table
from firn.live import layout, tick
from firn.live.targets import live_targets

PLAN: dict[str, dict[str, Any]] = {
    "movies": {
        "files": ["raw/*.tif"], "batch_size": 3, "eer_fractions": 40, "eer_upsampling": 2,
        "jobs": {"movies": [], "motion": ["movies"]}, "curation": [{"max_motion": 20.0}],
    }
}  # fmt: skip
QUICK = {"settle_s": 0, "give_up_s": 1000, "max_wait_s": 1000, "poll_s": 0.001, "quiet_min": None, "alarms": {"disk_free_gb": 0}}


def decide(**changes: Any) -> None:
    layout.CONTROL.write_text(yaml.safe_dump(QUICK | changes))


def turn() -> list[str]:
    """Run a tick, and say what Snakemake would be asked for."""
    tick.run_tick(PLAN, Path(live_targets(PLAN)[-1]))
    return live_targets(PLAN)


def finish(batch: str, motion: float = 10.0, lost: tuple[str, ...] = ()) -> None:
    """Leave the results that the jobs of a batch leave."""
    files = [entry["path"] for entry in json.loads(layout.batch_file("movies", batch).read_text())["files"]]
    for job in PLAN["movies"]["jobs"]:
        folder = layout.result_file(job, batch).parent
        folder.mkdir(parents=True, exist_ok=True)
        kept = [path for path in files if path not in lost]
        rows = pd.DataFrame({"exposure_id": [exposure_id(path) for path in kept], "movie": kept, "motion_total": motion})
        write_table(folder / "exposures.star", rows, "exposures")
        failed = [{"exposure_id": exposure_id(path), "movie": path, "reason_code": "CODEC", "reason": "broken"} for path in lost]
        if failed:
            write_table(folder / "failed.star", pd.DataFrame(failed), "failed")
        (folder / "job.json").write_text("{}")


def session() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(layout.SESSION.read_text())
    return content


def rows() -> pd.DataFrame:
    return pd.read_csv(layout.EXPOSURES, dtype={"batch": str})


def on_sleep(monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], None]) -> None:
    """Do one thing each time the tick goes to sleep; too many sleeps are an error."""
    left = list(actions)
    monkeypatch.setattr(tick.time, "sleep", lambda seconds: left.pop(0)())


def alarm_lines() -> list[dict[str, Any]]:
    """What was written about alarms."""
    return [json.loads(line) for line in layout.ALARM_LOG.read_text().splitlines()]
