"""Text from elsewhere in Markdown, refusals, and warnings."""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.core.parameters import Spec
from engine.core.study import Result


def plain(text: str) -> str:
    """Escape text from outside (a URL, a file name, an error) so that Markdown shows it as is."""
    text = re.sub(r"([\\`*_{}\[\]()#+\-!|<>$~:])", r"\\\1", text)
    # A word joiner keeps addresses from becoming links.
    return re.sub(r"(?i)(www|@)", lambda found: found[0] + "\u2060", text)


def notice(text: str) -> str:
    """The same, but what stands between two backticks, such as a command, is shown as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backtick has no partner
        return plain(text)
    return "".join(
        f"`{part}`" if number % 2 and part.strip() and "\n" not in part else plain(part)
        for number, part in enumerate(parts)
    )


def named(message: str, specs: dict[str, Spec]) -> str:
    """A refusal as the page words it: the field's name replaced by its widget's title."""
    name, colon, rest = message.partition(": ")
    return f"{specs[name].title}{colon}{rest}" if colon and name in specs else message


def warned(found: Mapping[str, Result]) -> dict[str, list[str]]:
    """Warning → the names of the results that have it, in order."""
    said: dict[str, list[str]] = {}
    for name, result in found.items():
        for warning in result.warnings:
            said.setdefault(warning, []).append(name)
    return said


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
