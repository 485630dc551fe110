# Needs  micrographs with CTF; templates for the template picker.
# Makes  picks with a correlation and a power score.
# Steps  correlate with blobs or templates, find peaks, refuse dirt and edges, set thresholds.
#        A live session may decide that a job's batches are picked by another picker: the settings name the one that counts.


rule blob_picker:
    """Pick particles as blobs in one batch."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("blob_picker"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        preprocess_gpu=1,
        mem_mb=4000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/{params.settings[type]}.py"


rule template_picker:
    """Pick particles by templates in one batch."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("template_picker"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        preprocess_gpu=1,
        mem_mb=4000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/{params.settings[type]}.py"


rule blob_picker_tuner:
    """Find the diameters for blob_picker from a few micrographs."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/blob_picker_tuner.rst",
            category="Picking",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("blob_picker_tuner"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/blob_picker_tuner.py"


rule junk_detector:
    """Find junk in the micrographs of one batch."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("junk_detector"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        preprocess_gpu=1,
        mem_mb=4000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/junk_detector.py"


rule inspect_picks:
    """Set thresholds on all picks."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/inspect_picks.rst",
            category="Picking",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=whole_inspections,
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/inspect_picks.py"


rule import_picks:
    """Read the picks of other programs."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/import_picks.rst",
            category="Picking",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("import_picks"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/import_picks.py"


rule topaz_picker:
    """Pick particles with Topaz in one batch."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("topaz_picker"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        preprocess_gpu=1,
        mem_mb=4000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/{params.settings[type]}.py"


rule topaz_train:
    """Train a model of Topaz from known particles."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/topaz_train.rst",
            category="Picking",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("topaz_train"),
    conda:
        "../envs/firn.yaml"
    threads: 4
    resources:
        reconstruct_gpu=1,
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/topaz_train.py"


rule topaz_cross_validation:
    """Try values of a parameter of Topaz's training and train with the best."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/topaz_cross_validation.rst",
            category="Picking",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("topaz_cross_validation"),
    conda:
        "../envs/firn.yaml"
    threads: 4
    resources:
        reconstruct_gpu=1,
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/topaz_cross_validation.py"


rule topaz_denoise:
    """Denoise the micrographs of one batch with Topaz, to be looked at."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("topaz_denoise"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        preprocess_gpu=1,
        mem_mb=8000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/topaz_denoise.py"


rule gautomatch:
    """Pick particles with Gautomatch in one batch."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("gautomatch"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        preprocess_gpu=1,
        mem_mb=4000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/gautomatch.py"


rule cryolo_picker:
    """Pick particles with crYOLO in one batch."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("cryolo_picker"),
    conda:
        "../envs/firn.yaml"
    threads: 4
    resources:
        preprocess_gpu=1,
        mem_mb=16000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/cryolo_picker.py"
