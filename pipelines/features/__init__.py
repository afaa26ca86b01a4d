"""Speech and motion features of clips: which encoder made them, and one shard's rows through it."""
