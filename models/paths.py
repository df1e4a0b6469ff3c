"""Where dyno keeps things: state under DYNO_HOME, what can be made again under DYNO_CACHE."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """Warehouse, bundles and published snapshot: `DYNO_HOME`, else the platform's data folder."""
    return Path(os.environ.get("DYNO_HOME") or platformdirs.user_data_dir("dyno")).expanduser().absolute()


def warehouse() -> Path:
    """Where questions are answered from: home, or a served warehouse, `DYNO_WAREHOUSE` (quack:host:port); whoever only
    reads takes one for the other."""
    return Path(os.environ.get("DYNO_WAREHOUSE", "").strip() or home())


def bundles() -> str | None:
    """Where a team's machines exchange bundles: `DYNO_BUNDLES`, a folder or s3://…; None: this one is on its own."""
    return os.environ.get("DYNO_BUNDLES", "").strip() or None


def cache() -> Path:
    """Built engines and made checkpoints: `DYNO_CACHE`, else the platform's cache folder."""
    return Path(os.environ.get("DYNO_CACHE") or platformdirs.user_cache_dir("dyno")).expanduser().absolute()
