"""From raw videos to clips: list and probe sources, cut spans, measure, write clip shards."""
