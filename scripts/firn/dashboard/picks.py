"""Picks of a run in the plane of correlation and local power, before limits where the picker's maxima are there.

Power is that which limits are compared with, corrected for defocus, as far as an inspection told it: it is the same factor for all picks of an exposure.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firn.dashboard.exposures import folders_of
from firn.dashboard.job_list import read_records
from firn.dashboard.kept import Stamp, stamp, tagged
from firn.dashboard.places import RequestError, is_inside
from firn.dashboard.server import Answer
from firn.formats.yaml_text import read_yaml
from firn.live.control import LIMIT_KEYS
from firn.live.pickers import FUSED, INSPECTION, KEYS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

MOST_BATCHES = 64
"""Batches of a job that are read, evenly spread over all."""
MOST_SENT = 4000
"""Picks by which a browser counts what limits keep."""
PICKED = "batches/*/picks.star"
BINS = (72, 48)
"""Of the histogram, in correlation and in the logarithm of power."""
KEPT, LINE, BELOW = 1, 2, 4
"""A pick is kept now; lies on the particles' side of its batch's line; is not above the greatest power that was found in its batch."""
COLUMNS = ("exposure_id", "x_px", "y_px", "pick_score", "pick_power", "diameter")
ENDS = (0.002, 0.998)
"""Quantiles between which the histogram lies."""


@dataclass(frozen=True)
class Source:
    """A job that picks batch by batch, the inspection of its picks if there is one, and the settings of both in the latest batch."""

    job: str
    type: str
    settings: dict[str, Any]
    inspection: str = ""
    limits: tuple[tuple[str, float], ...] = ()
    """What the settings give, by the names of the control file."""
    decisions: str = ""
    """The file that the inspection reads decisions from, or would."""


@dataclass(frozen=True)
class Batch:
    """Picks of a batch: exposure_id, x_px, y_px, pick_score, pick_power, diameter, `kept`, whether the limits keep them now, and `code`."""

    name: str
    picks: "pd.DataFrame"


def sources() -> list[Source]:
    """Jobs that pick, by name."""
    records = read_records()
    found = []
    for record in records:
        if record.type not in (FUSED, *KEYS) or not any(Path("results", record.name).glob(PICKED)):
            continue
        settings = dict(record.content["settings"])
        judge = next((one for one in records if one.type == INSPECTION and record.name in one.upstream), None)
        prefix, given = ("limit_", settings) if record.type == FUSED else ("", judge.content["settings"] if judge else {})
        limits = tuple((name, float(given[prefix + name])) for name in LIMIT_KEYS if given.get(prefix + name) is not None)
        named = judge.content["settings"].get("decisions") if judge else None
        decisions = str(named or f"decisions/{judge.name}.yaml") if judge else ""
        found.append(Source(record.name, record.type, settings, judge.name if judge else "", limits, decisions))
    return found


def find_source(job: str) -> Source:
    """The job of that name that picks; RequestError (404) when there is none."""
    found = next((one for one in sources() if one.job == job), None)
    if found is None:
        raise RequestError(404, "There is no picker of that name.")
    return found


def tell(job: str) -> Answer:
    """Histogram, a sample of picks, and the exposures with most, median and fewest kept picks of a job."""
    import pandas as pd

    source = find_source(job)
    all_batches = _batches(job)
    chosen = all_batches[:: stride(len(all_batches))]
    batches = [batch for batch in (read_batch(source, path) for path in chosen) if len(batch.picks)]
    if not batches:
        raise RequestError(404, f"{job} has picked nothing yet.")
    picks = pd.concat([batch.picks for batch in batches], ignore_index=True)
    told = {
        "job": job, "type": source.type, "inspection": source.inspection, "batches": [len(chosen), len(all_batches)],
        "exposures": int(picks["exposure_id"].nunique()), "picks": len(picks), "kept": int(picks["kept"].sum()),
        "found": _rule(source, batches[-1].name), "histogram": histogram(picks), "sample": _sample(picks), "shown": _shown(batches),
    }  # fmt: skip
    return tagged(json.dumps(told, separators=(",", ":"), allow_nan=False).encode())


def stride(count: int) -> int:
    """Every how many-th of so many batches is read: a power of two, so that those once read stay among them as more come."""
    step = 1
    while -(-count // step) > MOST_BATCHES:
        step *= 2
    return step


def histogram(picks: "pd.DataFrame") -> dict[str, Any]:
    """Counts by row of power, the lowest first; `score` and `power` are the ends of the axes, `power` divided evenly in its logarithm."""
    import numpy as np

    score = picks["pick_score"].to_numpy(dtype=float)
    level = np.log(picks["pick_power"].to_numpy(dtype=float).clip(1e-9))
    ends = [_ends(values) for values in (score, level)]
    places = [values.clip(*end) for values, end in zip((score, level), ends, strict=True)]
    counts = np.histogram2d(places[0], places[1], bins=list(BINS), range=ends)[0].T
    low, high = np.exp(ends[1])
    return {
        "score": [round(float(end), 4) for end in ends[0]], "power": [float(f"{low:.4g}"), float(f"{high:.4g}")],
        "across": BINS[0], "down": BINS[1], "counts": counts.astype(int).ravel().tolist(),
    }  # fmt: skip


def read_batch(source: Source, folder: Path) -> Batch:
    """Picks in the folder of a batch of a job, and which of them are kept now."""
    maxima = max(folder.glob("maxima_*.star"), key=lambda path: path.stat().st_mtime, default=None)
    fused = source.type == FUSED
    found = maxima if maxima and fused else folder / "picks.star"
    kept = (
        folder / "picks.star"
        if fused or not source.inspection
        else Path("results", source.inspection, "batches", folder.name, "picks.star")
    )
    judged = kept if kept.exists() else found
    if not all(is_inside(path.as_posix()) for path in (found, judged)):
        return Batch(folder.name, _none())
    rule = _rule_file(source, folder.name)
    return _read(folder.name, found, judged, rule, (stamp(found), stamp(judged), stamp(rule) if rule else None))


@lru_cache(maxsize=4 * MOST_BATCHES)
def _read(name: str, found: Path, kept: Path, rule: Path | None, _: tuple[Stamp | None, ...]) -> Batch:
    from firn.formats.tables import read_table  # pandas, which takes a second to import

    picks = read_table(found, "picks", needs=("exposure_id", "x_px", "y_px", "pick_score"))
    judged = picks if kept == found else read_table(kept, "picks")
    picks = picks.assign(**{column: 1.0 for column in ("pick_power", "diameter") if column not in picks.columns})
    keys = [list(zip(table["exposure_id"], table["x_px"].round(1), table["y_px"].round(1), strict=True)) for table in (picks, judged)]
    passed = set(keys[1])
    told = picks[[*COLUMNS]].assign(kept=[key in passed for key in keys[0]])
    told["pick_power"] *= told["exposure_id"].map(_corrections(judged)).fillna(1.0)
    return Batch(name, told.assign(code=_codes(told, _decided(rule))).reset_index(drop=True))


def _codes(picks: "pd.DataFrame", decided: dict[str, Any]) -> "np.ndarray":
    """What a browser is told of each pick: KEPT, and what the limits that were found in its batch say of it, LINE and BELOW."""
    import numpy as np

    kept, power = picks["kept"].to_numpy(dtype=bool), picks["pick_power"].to_numpy(dtype=float)
    line, most = decided.get("line"), decided.get("max_power")
    given = str(decided.get("reasons", {}).get("max_power", "")).startswith("given")
    below = np.ones(len(kept), dtype=bool) if most is None or given else power <= float(most)
    side = picks["pick_score"].to_numpy() * line["ncc"] + np.log(power.clip(1e-12)) * line["log_power"] >= line["least"] if line else kept
    return np.asarray(KEPT * kept + LINE * side + BELOW * below)


def _rule_file(source: Source, batch: str) -> Path | None:
    """What the inspection decided last of a batch, alone or with all others."""
    home = Path("results", source.inspection)
    known = [path for path in (home / "decisions.yaml", home / "batches" / batch / "decisions.yaml") if is_inside(path.as_posix())]
    return max(known, key=lambda path: path.stat().st_mtime, default=None) if source.inspection else None


def _decided(path: Path | None) -> dict[str, Any]:
    return dict(read_yaml(path, "decisions about picks") or {}) if path else {}


def _corrections(judged: "pd.DataFrame") -> dict[str, float]:
    """Factor of each exposure's powers between found and calibrated for defocus."""
    if not {"pick_power", "pick_power_calibrated"} <= set(judged.columns) or judged.empty:
        return {}
    ratio = judged["pick_power_calibrated"] / judged["pick_power"]
    return {str(name): float(value) for name, value in ratio.groupby(judged["exposure_id"]).median().items()}


def _none() -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({name: [] for name in (*COLUMNS, "kept", "code")})


def _ends(values: "np.ndarray") -> tuple[float, float]:
    import numpy as np

    low, high = np.quantile(values, ENDS)
    margin = 0.04 * (high - low) or 0.1
    return float(low - margin), float(high + margin)


def _batches(job: str) -> list[Path]:
    """Folders of the batches of a job that are done, in order."""
    return sorted((path.parent for path in Path("results", job).glob(PICKED)), key=lambda folder: (len(folder.name), folder.name))


def _rule(source: Source, batch: str) -> dict[str, Any]:
    """The line that the inspection found in a batch, and why its limits are what they are."""
    content = _decided(_rule_file(source, batch))
    return {"line": content.get("line"), "reasons": content.get("reasons", {})}


def _sample(picks: "pd.DataFrame") -> list[list[float | int]]:
    """[score, power, code] of evenly spread picks."""
    chosen = picks.iloc[:: -(-len(picks) // MOST_SENT)]
    return [_pair(row) for row in chosen[["pick_score", "pick_power", "code"]].itertuples(index=False)]


def _pair(row: Any) -> list[float | int]:
    return [round(float(row.pick_score), 4), float(f"{row.pick_power:.4g}"), int(row.code)]


def _shown(batches: list[Batch]) -> list[dict[str, Any]]:
    """The exposures with most, median and fewest picks kept now, each with its picture and all its picks, the best first."""
    counts = sorted(
        ((int(rows["kept"].sum()), str(name), batch, rows) for batch in batches for name, rows in batch.picks.groupby("exposure_id")),
        key=lambda one: one[:2],
    )
    places = {"most picks": len(counts) - 1, "median": len(counts) // 2, "fewest picks": 0}
    chosen = {counts[place][1]: (which, *counts[place][1:]) for which, place in reversed(places.items())}
    return [_drawn(*one) for one in reversed(chosen.values())]


def _drawn(which: str, exposure: str, batch: Batch, rows: "pd.DataFrame") -> dict[str, Any]:
    from firn.live.strip import MOST_PICKS, look_at  # Pillow, which is slow to import

    best = rows.sort_values("pick_score", ascending=False).iloc[:MOST_PICKS]
    picture = look_at(folders_of(batch.name), exposure, is_inside, best.to_dict("records"))
    judged = [_pair(row) for row in best.itertuples(index=False)]
    placed = [[*place, *pair] for place, pair in zip(picture.pop("picks", []), judged, strict=False)]
    return {"id": exposure, "which": which, "picks": placed, "all": len(rows)} | picture
