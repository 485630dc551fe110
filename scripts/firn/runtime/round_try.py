"""One try of a round of a stream, from its plan: gather the accepted particles, run the job, leave a record.

A try that is killed is followed by another, which goes on from the state the first one left. A round whose input cannot do, such as
classes of which none is good yet, is not tried again: the record holds the sentence.
"""

import importlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from firn.errors import InputError, MachineError
from firn.formats.tables import read_table, write_table
from firn.live import layout
from firn.live.rounds import round_name
from firn.live.storage import require_results
from firn.runtime.atomic import write_json
from firn.runtime.entry import open_job

SOURCES = "sources"
"""Stands in a plan for the folder of the particles gathered from its batches."""


def make_round(plan: Mapping[str, Any], record: Path, threads: int) -> None:
    """Make what a round's plan says, unless it is there; the record is left last, with a sentence when its particles cannot do yet.

    Raises what the job raises, of InputError only MachineError.
    """
    home = layout.round_folder(plan["job"], round_name(plan["number"]))
    refused = ""
    if not (home / "job.json").exists():
        module = importlib.import_module(f"firn.jobs.{plan['settings']['type']}")
        try:
            with gathered(plan, home) as inputs:
                settings = plan["settings"] | {slot: folders[0] for slot, folders in inputs.items()}
                with open_job(module.Params, settings, inputs, home, plan["job"], None, threads, plan["lane"]) as job:
                    module.run(job)
        except MachineError:
            raise
        except InputError as error:
            require_results()
            refused = str(error)
    require_results()
    write_json(record, {"refused": refused} if refused else {"folder": str(home)})


@contextmanager
def gathered(plan: Mapping[str, Any], home: Path) -> Iterator[dict[str, list[str]]]:
    """Folders by slot, with the particles of the plan's exposures in one table that goes when the round is made."""
    folder = home.with_name(f".{home.name}.input")
    inputs = {slot: [str(folder) if name == SOURCES else name for name in names] for slot, names in plan["inputs"].items()}
    if any(SOURCES in names for names in plan["inputs"].values()):
        write_table(folder / "particles.star", accepted_particles(plan["sources"]), "particles")
    try:
        yield inputs
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def accepted_particles(sources: Mapping[str, Mapping[str, list[str]]]) -> pd.DataFrame:
    """Particles of the exposures that each batch of each extraction job contributes; raises InputError when there are none."""
    tables = []
    for job, batches in sources.items():
        for batch, exposures in batches.items():
            path = layout.result_file(job, batch).parent / "particles.star"
            if path.exists():
                table = read_table(path, "particles")
                tables.append(table[table["exposure_id"].isin(exposures)] if len(table) else table)
    tables = [table for table in tables if len(table)]
    if not tables:
        raise InputError("no accepted exposure has a particle")
    return pd.concat(tables, ignore_index=True)
