"""The image, its locks, and the whole on one machine by Docker Compose; what checks them without Docker."""
