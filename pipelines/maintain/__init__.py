"""Care of a dataset: other shard sizes, sources taken out, what nobody needs any more, a second look at refusals."""
