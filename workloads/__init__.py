"""The instrument: what is asked of an engine, when, and how the answers are timed."""
