"""The command line. A test of a message asserts what its reader needs, not the sentence."""

from __future__ import annotations

import re


def absent(line: str, facts: str) -> list[str]:
    """Which of the facts, joined by " | " (an entry, a file, an option, a value), are no words of the line."""

    def there(fact: str) -> bool:
        start, end = (r"(?<![\w-])" if fact[0].isalnum() else ""), (r"(?!\w)" if fact[-1].isalnum() else "")
        return re.search(start + re.escape(fact) + end, line) is not None

    return [fact for fact in facts.split(" | ") if not there(fact)]
