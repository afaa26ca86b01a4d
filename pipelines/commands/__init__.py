"""`ifmdm data`: the commands of motion datasets, each in the module of its kind."""
