"""Streamlit, with what the pages are made of imported before it listens: whoever comes first does not wait for that.

The pages themselves are not: a cache of Streamlit's wants to be made where its server runs.
"""

from __future__ import annotations

import gc
import inspect
from importlib import import_module

from streamlit.web.cli import main

NEEDED = ("altair", "pandas.io.formats.style", "polars", "pyarrow.compute", "scipy.special", "models.choosing.choose",
          "models.choosing.lengths", "models.choosing.procedure", "models.choosing.sensitivity",
          "models.choosing.survey", "models.choosing.unmeasured", "models.planning.calibration", "warehouse.evidence",
          "warehouse.reader")


def ready() -> None:
    """Imports what pages are made of, does what is done once a process, and has the garbage collector look through none
    of it any more."""
    for name in NEEDED:
        import_module(name)
    import_module("models.choosing.survey").said()
    chart = import_module("altair").Chart({"values": [{"x": 1}]}).mark_bar()
    chart.encode(x="x:Q").to_dict()  # reads and compiles the schema of all charts
    inspect.stack()  # Streamlit asks at the first element, and the file of each module is looked up
    gc.set_threshold(50_000, 20, 50)  # many small objects a page, few of them garbage
    gc.freeze()


if __name__ == "__main__":
    ready()
    main(prog_name="streamlit")
