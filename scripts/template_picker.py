"""The door of template_picker."""

from firn.jobs import template_picker
from firn.runtime.entry import enter

with enter(snakemake, template_picker.Params) as job:
    template_picker.run(job)
