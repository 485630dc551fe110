"""firn: a session is a graph of named jobs (config/README.md); each job type is one rule."""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")
sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from firn.dag.collection import batch_view, collected_batches, collected_imports, whole_imports
from firn.dag.inputs import batch_files, files, folders, parents, pattern
from firn.dag.picking import as_decided, inspected_apart
from firn.dag.session import load_session

if not config:

    configfile: f"{workflow.basedir}/config/config.yaml"


include: "rules/common.smk"
include: "rules/import.smk"
include: "rules/motion.smk"
include: "rules/ctf.smk"
include: "rules/curate.smk"
include: "rules/pick.smk"
include: "rules/extract.smk"
include: "rules/preprocess.smk"
include: "rules/classify_2d.smk"
include: "rules/initial.smk"
include: "rules/refine.smk"
include: "rules/postprocess.smk"
include: "rules/relion.smk"
include: "rules/utilities.smk"
include: "rules/simulate.smk"
include: "rules/gather.smk"
include: "rules/live.smk"


localrules:
    all,
    report,


rule all:
    """Every job of the session, and its report."""
    default_target: True
    input:
        expand("results/{job}/job.json", job=graph.order),
        "results/report.html",
