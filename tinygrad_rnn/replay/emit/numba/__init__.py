"""The loop as one compiled function, and its cache on disk."""
