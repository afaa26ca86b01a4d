"""Contract 1, the motion dataset on disk: schema, plan, manifests, shards, readers. Nothing in here needs Ray."""
