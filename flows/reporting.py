"""The report of an evaluation: a file under DYNO_HOME, and in Prefect's own pages."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from prefect import get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact

from models.experiment import Expansion, Experiment
from warehouse import report


def folder(home: Path) -> Path:
    """Where reports of evaluations are written: one HTML file an experiment, the newest."""
    return home / "reports"


def publish(experiment: Experiment, source: str, expansion: Expansion, home: Path) -> None:
    """Writes the report and makes two artifacts of the flow's run: its Markdown, and a link to the HTML file.

    What was measured is kept whatever happens here: a report that cannot be written is a warning, in Prefect's log.
    """
    asked = f"# {source}\n" + yaml.safe_dump(experiment.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    name = re.sub(r"[^a-z0-9-]+", "-", experiment.name.lower()).strip("-")
    file = folder(home) / f"{name}.html"
    try:
        document = report.of_points(home, experiment.name, [t.trial_id for t in expansion.trials], experiment.limits,
                                    asked, [(s.label, f"{s.field}: {s.reason}") for s in expansion.skipped])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(report.html(document))
        create_markdown_artifact(key=f"report-{name}", markdown=report.markdown(document),
                                 description=f"Report of {experiment.name}")
        create_link_artifact(key=f"report-file-{name}", link=file.as_uri(), link_text=f"{file.name}, with charts",
                             description=f"`{file}` on the machine that measured")
    except Exception as error:  # drawing and Prefect raise what they like; none of it may cost an evaluation
        get_run_logger().warning("no report was written: %s", error)
