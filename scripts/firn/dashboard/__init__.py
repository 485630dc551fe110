"""The dashboard: a run folder in a browser. It reads the run folder, which is the working directory, and writes nothing but decision files."""
