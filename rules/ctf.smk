# Needs  micrographs.
# Makes  defocus, astigmatism, defocus surface and fit resolution per micrograph.
# Steps  tile spectra, take off the background, search the defocus, refine astigmatism and surface; evaluate it at picks.


rule patch_ctf:
    """Fit the CTF of one batch of micrographs."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("patch_ctf"),
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
        "../scripts/patch_ctf.py"


rule ctf_at_picks:
    """Evaluate defocus surfaces at the picks or particles of one batch."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("ctf_at_picks"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        settings=settings,
        inputs=batch_folders,
    script:
        "../scripts/ctf_at_picks.py"


rule ctffind:
    """Fit the CTF of one batch of micrographs with CTFFIND."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("ctffind"),
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
        "../scripts/ctffind.py"


rule gctf:
    """Fit the CTF of one batch of micrographs with Gctf."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("gctf"),
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
        "../scripts/gctf.py"
