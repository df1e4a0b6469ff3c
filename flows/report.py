"""What an evaluation did, for whoever started it."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.experiment import Skipped


@dataclass
class Report:
    """What an evaluation did. `failed` maps a setup's label to why it failed; `unforeseen`: measurements outside the
    interval that earlier ones of the same setup let expect; `changed`: what got slower or faster since."""

    experiment: str
    measured: list[str] = field(default_factory=list)
    reused: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    unforeseen: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """What came of it, in a line."""
        parts = [f"{len(self.measured)} measured", f"{self.reused} measured before" if self.reused else "",
                 f"{len(self.skipped)} cannot be measured" if self.skipped else "",
                 f"{len(self.failed)} setups failed: {'; '.join(self.failed)}" if self.failed else ""]
        return ", ".join(filter(None, parts))
