"""One module per job type: a Params class beside a run function that reads, computes, writes and reports."""
