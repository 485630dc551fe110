"""Care of run folders and installations: sizes, archives, links, checks, benchmarks."""
