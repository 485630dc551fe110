"""A whole session on known data against what it should find: bounds on numbers of its jobs, which follow from the data's truth.

Convention: the expectations are YAML, `job: {metric: [least, most]}`, either bound null where there is none.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firn.errors import InputError
from firn.formats.yaml_text import read_yaml


@dataclass(frozen=True)
class Verdict:
    """A number of a job, its bounds, and whether it is within; found is None where the job or the number is missing."""

    job: str
    metric: str
    found: float | None
    least: float | None
    most: float | None

    @property
    def good(self) -> bool:
        """Whether the number is there and within its bounds."""
        if self.found is None or math.isnan(self.found):
            return False
        return (self.least is None or self.found >= self.least) and (self.most is None or self.found <= self.most)


def read_expectations(path: Path) -> dict[str, dict[str, list[float | None]]]:
    """Bounds by job and metric. Raises InputError when the file is not such a mapping."""
    told = read_yaml(path, "bounds by job and metric")
    if not isinstance(told, dict) or not told:
        raise InputError(f"{path}: should map jobs to their metrics and bounds")
    for job, metrics in told.items():
        for metric, bounds in metrics.items() if isinstance(metrics, dict) else [("", None)]:
            if not isinstance(bounds, list) or len(bounds) != 2 or not all(isinstance(each, int | float | None) for each in bounds):
                raise InputError(f"{path}: {job}.{metric}: should be two bounds such as [0.8, 1] or [null, 12], got {bounds!r}")
    return told


def judge_run(run: Path, expected: dict[str, dict[str, list[float | None]]]) -> Iterator[Verdict]:
    """Each expected number as the run's jobs tell it."""
    for job, metrics in expected.items():
        record = run / "results" / job / "job.json"
        told: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))["metrics"] if record.exists() else {}
        for metric, (least, most) in metrics.items():
            value = told.get(metric, {}).get("value")
            yield Verdict(job, metric, None if value is None else float(value), least, most)


def verdict_table(verdicts: list[Verdict]) -> str:
    """Lines of text, the bad ones marked."""
    lines = []
    for each in verdicts:
        bounds = " to ".join("" if bound is None else f"{bound:g}" for bound in (each.least, each.most)).strip()
        found = "missing" if each.found is None else f"{each.found:.4g}"
        lines.append(f"{'ok ' if each.good else 'BAD'}  {each.job:<14} {each.metric:<28} {found:>10}   expected {bounds}")
    bad = sum(not each.good for each in verdicts)
    return "\n".join([*lines, f"{len(verdicts) - bad} of {len(verdicts)} numbers are as expected"])
