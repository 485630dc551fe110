"""The door of topaz_picker."""

from firn.jobs import topaz_picker
from firn.runtime.entry import enter

with enter(snakemake, topaz_picker.Params) as job:
    topaz_picker.run(job)
