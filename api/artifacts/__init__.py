"""What a run leaves, by id and never by path: checkpoints, samples, the report, logs."""
