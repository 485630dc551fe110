# Needs  micrographs with CTF, and picks.
# Makes  stacks of normalised particle images with local CTF.
# Steps  cut boxes, subtract the background, normalise, Fourier-crop.


rule extract_particles:
    """Cut out the particles of one batch."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("extract_particles"),
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
        "../scripts/extract_particles.py"


rule downsample_particles:
    """Crop and Fourier-crop particle images."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/downsample_particles.rst",
            category="Extraction",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("downsample_particles"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/downsample_particles.py"
