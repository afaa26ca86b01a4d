"""Contract 1, the motion dataset on disk: schema, plan, manifests, shards, readers. Only `ray_source` needs Ray."""
