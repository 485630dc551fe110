"""Asked while Snakemake builds the DAG: the graph of named jobs and its checks. Never imports torch."""
