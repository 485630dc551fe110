# Needs  exposures with statistics.
# Makes  accepted and rejected exposures, and why.
# Steps  limits from the config or from the data themselves; a human's decisions file wins.


rule curate_exposures:
    """Accept or reject exposures."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/curate_exposures.rst",
            category="Curation",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("curate_exposures"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/curate_exposures.py"
