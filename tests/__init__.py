"""A package, so that nobody else's `tests` is taken for it (gpuhunt installs one)."""
