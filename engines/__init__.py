"""The specimens: one file an engine, and what provisions, starts and stops it."""
