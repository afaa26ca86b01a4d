"""Manifests: tables with one job a row, CSV, JSON Lines or Parquet; hundreds of thousands of them.

Columns are the fields of a `RenderJob`, with dots for what is inside others: `controls.seed`, `labels.team`. A row is
known by what it asks for, unless it has a `key` column: submitting a manifest again, or a corrected one, submits what
is new in it. Rows that cannot be are told one by one, and the others go on.
"""
