"""The door of a picker tried on one exposure."""

from pathlib import Path

from firn.live.layout import read_json
from firn.runtime.entry import log_to
from firn.runtime.picker_trial import make_trial

log_to(Path(snakemake.log[0]))
make_trial(read_json(Path(snakemake.input.plan), None), Path(snakemake.output.json).parent)
