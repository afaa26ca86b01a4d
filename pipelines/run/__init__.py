"""Running on Ray: the cluster, pools of workers, retries and progress."""
