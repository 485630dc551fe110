# Needs  tables, stacks or maps.
# Makes  the same, changed in one way.
# Steps  one step each.


rule create_templates:
    """Project a map to picking templates."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/create_templates.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("create_templates"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/create_templates.py"


rule remove_duplicates:
    """Drop particles picked twice."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/remove_duplicates.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("remove_duplicates"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/remove_duplicates.py"


rule symmetry_expansion:
    """Repeat particles in all equivalent poses."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/symmetry_expansion.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("symmetry_expansion"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/symmetry_expansion.py"


rule align_volumes:
    """Lay one map on another."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/align_volumes.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("align_volumes"),
    conda:
        "../envs/firn.yaml"
    threads: 4
    resources:
        reconstruct_gpu=1,
        mem_mb=6000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/align_volumes.py"


rule particle_sets:
    """Unite, intersect or subtract particle sets."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/particle_sets.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("particle_sets"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/particle_sets.py"


rule subset_particles:
    """Take a part of a particle set."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/subset_particles.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("subset_particles"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/subset_particles.py"


rule restack_particles:
    """Write particles into few large stacks."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/restack_particles.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("restack_particles"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/restack_particles.py"


rule cache_particles:
    """Copy particle images to the computing machine's disk."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/cache_particles.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("cache_particles"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/cache_particles.py"


rule check_particles:
    """Look at every particle image."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/check_particles.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("check_particles"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=8000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/check_particles.py"


rule export_relion:
    """Hand exposures, particles and maps on to RELION."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/export_relion.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("export_relion"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/export_relion.py"


rule export_cryosparc:
    """Hand exposures and particles on to CryoSPARC."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/export_cryosparc.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("export_cryosparc"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        settings=settings,
        inputs=job_folders,
    script:
        "../scripts/export_cryosparc.py"


rule export_deposition:
    """Collect what a deposition of a map asks for."""
    input:
        job_inputs,
    output:
        json="results/{job}/job.json",
        figures=report(
            directory("results/{job}/figures"),
            patterns=["{figure}.png"],
            caption="../docs/report/export_deposition.rst",
            category="Utilities",
            subcategory="{job}",
        ),
    log:
        "logs/{job}.log",
    benchmark:
        "logs/{job}.tsv"
    wildcard_constraints:
        job=jobs_of("export_deposition"),
    conda:
        "../envs/firn.yaml"
    threads: 1
    resources:
        mem_mb=12000,
    params:
        settings=lambda wildcards: graph.settings_with_about(wildcards.job),
        inputs=job_folders,
    script:
        "../scripts/export_deposition.py"
