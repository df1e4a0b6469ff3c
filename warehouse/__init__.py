"""Bundles on disk and their projection in DuckDB: one writer, many readers, one published snapshot."""
