"""The small file in which a tuner hands diameters of blobs to the picker. Convention: Å; the file is for people to read too."""

import math
import os
from pathlib import Path
from typing import Any

import yaml

from firn.errors import InputError, brief
from firn.formats.yaml_text import read_yaml


def write_blobs(path: str | os.PathLike, min_diameter: float, max_diameter: float, reason: str, tried: dict[float, float]) -> None:
    """Write the diameters, to a tenth of an Å, one sentence about where they come from, and the merit of each diameter tried."""
    merits = {round(float(diameter), 1): round(float(merit), 4) for diameter, merit in tried.items()}
    limits = {"min_diameter": round(float(min_diameter), 1), "max_diameter": round(float(max_diameter), 1)}
    content = {**limits, "reason": reason, "tried": merits}
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def read_blobs(path: str | os.PathLike) -> tuple[float, float]:
    """(smallest, largest diameter). Raises InputError when the file is missing or holds anything else."""
    content = read_yaml(path, "diameters of blobs")
    given: dict[str, Any] = content if isinstance(content, dict) else {}
    low, high = given.get("min_diameter"), given.get("max_diameter")
    if low is None or high is None or not (_is_length(low) and _is_length(high) and low <= high):
        raise InputError(f"{path}: expected min_diameter and max_diameter in Å, got '{brief(content)}'")
    return float(low), float(high)


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0
