"""Names that Kubernetes takes as they come, and that only mean something when they are spelt right."""

from __future__ import annotations

LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/component", "pod-security.kubernetes.io/enforce")
NAMESPACE_LABELS = ("kubernetes.io/metadata.name",)
NODE_LABELS = ("nvidia.com/gpu.product", "karpenter.sh/capacity-type")
"""Of machines: the GPU's kind as NVIDIA's feature discovery says it; on demand or spot as Karpenter says it."""
RESOURCES = ("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu")
TAINTS = ("nvidia.com/gpu",)
ENVIRONMENT = (
    "HOME", "IFMDM_CACHE", "RAY_USAGE_STATS_ENABLED", "MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION",
    "AWS_ENDPOINT_URL",
)  # fmt: skip
PROBES = ("/healthz", "/readyz", "/api/healthz")
"""Of the gateway, the gateway, and a Ray node."""
RAY_AGENT_PORT = 52365
"""Where a Ray node answers the last of them, whatever its container lists."""
