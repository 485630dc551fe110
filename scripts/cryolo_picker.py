"""The door of cryolo_picker."""

from firn.jobs import cryolo_picker
from firn.runtime.entry import enter

with enter(snakemake, cryolo_picker.Params) as job:
    cryolo_picker.run(job)
