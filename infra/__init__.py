"""What composes the rooms. So far: the command line (`infra.cli`)."""
