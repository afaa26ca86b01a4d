"""Looking at datasets: what there is, whether it is whole, how it is distributed, how two motion sets differ."""
