"""The service on Kubernetes: manifests for KubeRay, what runs them, and what checks them."""
