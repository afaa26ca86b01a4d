"""Render jobs: a bucket is the queue, the record and the result. Docs: docs/jobs.md."""
