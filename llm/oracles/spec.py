"""A rule with its settings in one text, as a command and a file of settings give it: ``RULE:setting=value``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nashward.errors import NashwardError


def parsed(
    text: str, what: str, rules: Mapping[str, Sequence[str]], objectives: Sequence[str] = ()
) -> tuple[str, dict[str, str]]:
    """The rule and its settings.

    Args:
        text: as it is written.
        what: the setting that it is the value of, for errors.
        rules: the settings of each rule; a file that one named ``pairs`` names is there.
        objectives: those of the settings that are names of objectives, for errors.

    Raises:
        ValueError: an unknown rule or setting, or a setting twice.
        FileNotFoundError: there is no such file of pairs.

    Example:
        >>> parsed("style:pairs=docs/conf.py", "correct", {"style": ["pairs"]})
        ('style', {'pairs': 'docs/conf.py'})
    """
    rule, *parts = text.split(":")
    where = f"{what} {text!r}"
    if rule not in rules:
        raise NashwardError(f"{where}: there is no rule {rule}; there are: {', '.join(rules)}")
    settings: dict[str, str] = {}
    for part in parts:
        key, sign, value = part.partition("=")
        if not sign or key in settings:
            raise NashwardError(f"{where}: expected RULE:setting=value, each once, got {part!r}")
        if key not in rules[rule]:
            own = ", ".join(name for name in rules[rule] if name not in objectives)
            if set(rules[rule]) & set(objectives):
                raise NashwardError(
                    f"{where}: there is no objective {key!r}; there are: {', '.join(objectives)}"
                    + (f" (and the settings of {rule}: {own})" if own else "")
                )
            raise NashwardError(f"{where}: {rule} has no setting {key!r}; it has {own or 'no settings'}")
        settings[key] = value
    if "pairs" in settings and not Path(settings["pairs"]).expanduser().is_file():
        raise FileNotFoundError(f"{where}: there is no file of pairs {settings['pairs']}")
    return rule, settings


def numbers(settings: Mapping[str, str], name: str) -> list[float] | None:
    """A setting that is numbers with commas between them; None where it is not given.

    Raises:
        ValueError: it is none.
    """
    text = settings.get(name)
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise NashwardError(f"{name} is {text!r}; expected numbers") from None


def number(settings: Mapping[str, str], name: str) -> float | None:
    """A setting that is one number; None where it is not given.

    Raises:
        ValueError: it is none, or several.
    """
    values = numbers(settings, name)
    if values is not None and len(values) != 1:
        raise NashwardError(f"{name} is {settings[name]!r}; expected one number")
    return None if values is None else values[0]
