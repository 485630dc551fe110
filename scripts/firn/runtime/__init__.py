"""What surrounds a job: the door, devices, progress, provenance and atomic writes."""
