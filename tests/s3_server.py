"""The S3 server of `ifmdm up --s3`, for tests."""

from infra.stack.s3_server import S3Server

__all__ = ["S3Server"]
