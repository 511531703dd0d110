"""Runs of commands measure their rounding as short as those of the language models' tests."""

from ..llm.conftest import short_rounding as short_rounding
