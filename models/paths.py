"""Where dyno keeps things: state under DYNO_HOME, what can be made again under DYNO_CACHE."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """Warehouse, bundles and published snapshot: `DYNO_HOME`, else the platform's data folder."""
    return Path(os.environ.get("DYNO_HOME") or platformdirs.user_data_dir("dyno")).expanduser().absolute()


def cache() -> Path:
    """Built engines and made checkpoints: `DYNO_CACHE`, else the platform's cache folder."""
    return Path(os.environ.get("DYNO_CACHE") or platformdirs.user_cache_dir("dyno")).expanduser().absolute()
