"""How a data set is named on the command line: ``NAME``, ``NAME:PATH`` or ``NAME:PATH@OPTION=VALUE,OPTION=VALUE``.

The options choose a variant of the protocol: ``occluded-reid:PATH@split=3``. They follow the last ``@`` and only where
what follows reads as options, so a path may hold an ``@``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from trainer.data.listing import DatasetError

_OPTIONS = re.compile(r"[a-z]+=[\w.-]+(?:,[a-z]+=[\w.-]+)*")
ALL = "all"
"""The value of an option that stands for every trial: `trainer.data.find_trials`."""


@dataclass(frozen=True)
class Reference:
    """A data set as a user named it."""

    key: str
    path: str = ""
    options: Mapping[str, int | str] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return self.key + (f":{self.path}" if self.path else "") + (f"@{options}" if options else "")


def parse(name: str) -> Reference:
    """Takes a name apart; DatasetError for an option that is given twice."""
    whole, at, tail = name.rpartition("@")
    if not at or not _OPTIONS.fullmatch(tail):
        whole, tail = name, ""
    key, _, path = whole.partition(":")
    options: dict[str, int | str] = {}
    for option in filter(None, tail.split(",")):
        label, _, value = option.partition("=")
        if label in options:
            raise DatasetError(f"data set {name!r}: option {label!r} is given twice")
        options[label] = int(value) if value.isdecimal() else value
    return Reference(key, path, options)
