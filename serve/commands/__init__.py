"""Commands of the service that need no running one."""
