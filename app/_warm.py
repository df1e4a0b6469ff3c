"""Streamlit, with what pages are made of imported and the first of them drawn before it listens: whoever comes first
waits for neither."""

from __future__ import annotations

import contextlib
import gc
import inspect
import logging
import sys
from importlib import import_module

from streamlit.web.cli import main

from app._streamlit import SCRIPT

NEEDED = ("altair", "pandas.io.formats.style", "polars", "pyarrow.compute", "scipy.special", "models.choosing.choose",
          "models.choosing.lengths", "models.choosing.procedure", "models.choosing.sensitivity",
          "models.choosing.survey", "models.choosing.unmeasured", "models.planning.calibration", "warehouse.evidence",
          "warehouse.reader")
LOGGERS = ("streamlit.config", "streamlit.runtime.scriptrunner_utils.script_run_context")
"""They warn of a page that is drawn before there is a server."""
LONGEST_S = 20.0
"""That drawing the first page is waited for."""


def ready() -> None:
    """Imports what pages are made of, does what is done once a process, and has the garbage collector look through none
    of it any more."""
    for name in NEEDED:
        import_module(name)
    import_module("models.choosing.survey").said()
    chart = import_module("altair").Chart({"values": [{"x": 1}]}).mark_bar()
    chart.encode(x="x:Q").to_dict()  # reads and compiles the schema of all charts
    _draw_once()
    inspect.stack()  # Streamlit asks at the first element, and the file of each module is looked up
    gc.set_threshold(50_000, 20, 50)  # many small objects a page, few of them garbage
    gc.freeze()


def _draw_once() -> None:
    """Draws the first page for nobody, so that the first to come waits no longer than the second: its modules, what it
    reads and answers. Whatever is wrong there is told to whoever opens it."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(lambda record: record.levelno > logging.WARNING)
    own = sys.modules["__main__"]
    with contextlib.suppress(Exception):
        import_module("streamlit.testing.v1").AppTest.from_file(str(SCRIPT), default_timeout=LONGEST_S).run()
    sys.modules["__main__"] = own  # processes that are spawned later look for it


if __name__ == "__main__":
    ready()
    main(prog_name="streamlit")
