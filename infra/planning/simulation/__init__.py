"""A discrete-event simulation: real scheduler, sweeper, job log and scaling policy; stand-ins for what takes time."""
