"""What stands around everything the gateway serves, Studio and WebSockets included: pure ASGI, no framework.

From the outside in: `replies` (request ids, errors as JSON), `access` (who is calling), `intake_limits` (rates,
admission, sizes and patience).
"""
