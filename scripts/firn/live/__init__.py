"""A session while the microscope collects: watch folders, cut batches, judge exposures, tell people. Never imports torch."""
