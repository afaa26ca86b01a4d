"""Workers as processes: threads around `jobs.worker.Worker`, alone on a machine or as actors on a Ray cluster."""
