"""The door of topaz_denoise."""

from firn.jobs import topaz_denoise
from firn.runtime.entry import enter

with enter(snakemake, topaz_denoise.Params) as job:
    topaz_denoise.run(job)
