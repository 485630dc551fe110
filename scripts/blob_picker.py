"""The door of blob_picker."""

from firn.jobs import blob_picker
from firn.runtime.entry import enter

with enter(snakemake, blob_picker.Params) as job:
    blob_picker.run(job)
