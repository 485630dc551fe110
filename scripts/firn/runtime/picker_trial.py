"""One exposure picked with proposed settings, beside a live session: a picture and numbers, and nothing that others read."""

import importlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from firn.errors import InputError
from firn.formats.tables import read_table, write_table
from firn.runtime.atomic import write_json
from firn.runtime.entry import open_job

PICTURES = {"picks.png": "micrographs.png", "thresholds.png": "thresholds.png"}
"""What is kept of the figures of the inspection, by the name it gets."""


def make_trial(plan: Mapping[str, Any], folder: Path) -> None:
    """Pick and inspect as planned, and leave picks.png, thresholds.png, picks.star and result.json in the folder.

    Settings that cannot do are told as `refused` in the result.
    """
    result: dict[str, Any] = {"exposure": plan["exposure"], "settings": plan["picker"], "limits_given": plan["limits"]}
    try:
        result |= _pick(plan, folder)
    except InputError as error:
        result["refused"] = str(error)
    finally:
        for name in ("exposures", "found", "kept"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / f"{name}_log.jsonl").unlink(missing_ok=True)
    write_json(folder / "result.json", result)


def _pick(plan: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    table = read_table(Path(plan["exposures"]) / "exposures.star", "exposures")
    table = table[table["exposure_id"].astype(str) == plan["exposure"]].reset_index(drop=True)
    if table.empty:
        raise InputError(f"{plan['exposures']}: has no exposure {plan['exposure']}")
    write_table(folder / "exposures" / "exposures.star", table, "exposures")
    inputs = {"exposures": [str(folder / "exposures")]} | {slot: [source] for slot, source in plan["folders"].items()}
    seconds = _run(dict(plan["picker"]), inputs, folder / "found")
    seconds += _run(
        {"type": "inspect_picks", **plan["limits"]}, {"exposures": inputs["exposures"], "picks": [str(folder / "found")]}, folder / "kept"
    )
    found, kept = (read_table(folder / name / "picks.star", "picks") for name in ("found", "kept"))
    write_table(folder / "picks.star", kept, "picks")
    pictures = [name for name, figure in PICTURES.items() if _keep(folder / "kept" / "figures" / figure, folder / name)]
    limits = yaml.safe_load((folder / "kept" / "decisions.yaml").read_text(encoding="utf-8"))
    return {
        "reasons": limits["reasons"],
        "found": len(found),
        "kept": len(kept),
        "limits": {name: limits.get(name) for name in ("min_ncc", "min_power", "max_power")},
        "pictures": pictures,
        "seconds": round(seconds, 1),
    }


def _run(settings: dict[str, Any], inputs: dict[str, list[str]], home: Path) -> float:
    """Run a job in a folder of the test, and give its seconds; slots are named in the settings as jobs are in a config."""
    module = importlib.import_module(f"firn.jobs.{settings['type']}")
    own = {slot: folders[0] for slot, folders in inputs.items() if slot in module.Params.model_fields}
    with open_job(module.Params, settings | own, {slot: inputs[slot] for slot in own}, home, home.name, None, 1, "auxiliary") as job:
        module.run(job)
    return float(yaml.safe_load((home / "job.json").read_text(encoding="utf-8"))["seconds"])


def _keep(figure: Path, target: Path) -> bool:
    if figure.exists():
        shutil.copyfile(figure, target)
    return figure.exists()
