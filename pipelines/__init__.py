"""Motion datasets at scale: what they are on disk, how they are made on Ray, and the commands around them."""
