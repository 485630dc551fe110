"""The door of blob_picker_tuner."""

from firn.jobs import blob_picker_tuner
from firn.runtime.entry import enter

with enter(snakemake, blob_picker_tuner.Params) as job:
    blob_picker_tuner.run(job)
