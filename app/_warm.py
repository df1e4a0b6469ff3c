"""Streamlit, with what the pages are made of imported before it listens: whoever comes first does not wait for that.

The pages themselves are not: a cache of Streamlit's wants to be made where its server runs.
"""

from __future__ import annotations

import gc
from importlib import import_module

from streamlit.web.cli import main

NEEDED = ("altair", "pandas.io.formats.style", "polars", "pyarrow.compute", "scipy.special", "models.choosing.choose",
          "models.choosing.lengths", "models.choosing.procedure", "models.choosing.sensitivity",
          "models.choosing.survey", "models.choosing.unmeasured", "models.planning.calibration", "warehouse.evidence",
          "warehouse.reader")

if __name__ == "__main__":
    for name in NEEDED:
        import_module(name)
    gc.set_threshold(50_000, 20, 50)  # many small objects a page, few of them garbage
    gc.freeze()
    main(prog_name="streamlit")
