# Needs  exposures with movies, and templates if not blobs are picked.
# Makes  micrographs, CTF, picks and particle images of a batch.
# Steps  motion, CTF, picking, limits on picks, extraction: each movie in memory from its frames to its picks.


rule preprocess:
    """Take one batch of movies to particles in one process."""
    input:
        batch_inputs,
    output:
        json="results/{job}/batches/{batch}/job.json",
    log:
        "logs/{job}/batches/{batch}.log",
    wildcard_constraints:
        job=jobs_of("preprocess"),
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
        "../scripts/preprocess.py"
