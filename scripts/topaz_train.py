"""The door of topaz_train."""

from firn.jobs import topaz_train
from firn.runtime.entry import enter

with enter(snakemake, topaz_train.Params) as job:
    topaz_train.run(job)
