# Needs  every batch of a job that runs batch by batch.
# Makes  the job's whole tables, and the session's report as page and PDF.
# Steps  concatenate tables, unite warnings, draw summaries; collect all jobs into one page.


rule gather:
    """Unite the batches of a job."""
    input:
        all_batches,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/gather.rst",
            category="Exposures",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=scattered_jobs,
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=all_batch_folders,
    script:
        "../scripts/gather.py"


rule report:
    """Put every job's numbers and pictures on one page, and into a PDF to hand over."""
    input:
        expand("results/{job}/job.json", job=graph.order),
    output:
        html="results/report.html",
        pdf="results/report.pdf",
        methods="results/methods.txt",
        summary="results/summary.txt",
    log:
        "logs/report.log",
    benchmark:
        "logs/report.tsv"
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        session=config,
        schema=f"{workflow.basedir}/config/schema.json",
    script:
        "../scripts/report.py"
