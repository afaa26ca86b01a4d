"""Durable render jobs over a bucket. Nothing here yet; the contract is fixed, the code is not written."""
