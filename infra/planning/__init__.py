"""How much of everything a load takes: measured rates, formulas, and a simulation that the real scheduler steers."""
