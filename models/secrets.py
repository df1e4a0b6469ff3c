"""What names a secret, among options and variables of an engine."""

from __future__ import annotations

import re

OPTION = re.compile(r"-(.*[-_])?(key|token|secret|password)", re.IGNORECASE)
"""A whole option (`--api-key`) whose value is one."""
_VARIABLE = re.compile(r"(.*_)?(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)", re.IGNORECASE)


def refuse_options(words: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError where one of these options gives a secret: setups are kept with their results."""
    for word in words:
        if OPTION.fullmatch(option := word.partition("=")[0]):
            raise ValueError(f"{option} would be kept with every result: leave it out, an engine that dyno starts"
                             " listens to this machine only")
    return words


def refuse_variables(environment: dict[str, str]) -> dict[str, str]:
    """Raises ValueError where one of these variables is a secret, likewise."""
    for name in environment:
        if _VARIABLE.fullmatch(name):
            raise ValueError(f"{name} would be kept with every result: leave it out here and export it where dyno runs,"
                             " engines inherit it")
    return environment
