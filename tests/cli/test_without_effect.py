"""Options of a run that would do nothing beside the others are refused, with what they are of."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from nashward.cli import configuration
from nashward.cli.main import build_parser, main
from nashward.errors import NashwardError
from nashward.llm import SelfPlay, pocket

ALIGN = ["align", "--out", "run", "--policy", str(pocket.POLICY), "--prompts", "pocket:prompts"]
JUDGED = [*ALIGN, "--oracle", str(pocket.PAIRRM)]
TWO = ["--oracle", str(pocket.PAIRRM), "--oracle", "votes.jsonl"]
IDLE: list[tuple[list[str], str, list[str]]] = [  # an option, what its refusal names, and what makes it read
    (["--prompt-floor", "0.3"], "informative", ["--prompt-selection", "informative", "--prompts-per-iteration", "8"]),
    (["--margin", "1"], "simpo", ["--loss", "simpo", "--solver", "mwu"]),
    (["--limit-factor", "0.3"], "--win-rate-floor", ["--win-rate-floor", "0.5"]),
    (["--limit-lowers", "step"], "--sft-limit", ["--sft-limit", "0.1"]),
    (["--sft-weight", "0.3"], "--sft", ["--sft", "texts.jsonl"]),
    (["--kv-cache", "int8", "--engine", "http://localhost:1/v1"], "engine", []),
    (["--rank", "4", "--adapter", "lora"], "lora", []),
    (["--lora-targets", "mlp", "--adapter", "lora"], "lora", []),
    (["--spread-weights"], "several judges", TWO),
    (["--people-kind", "bt"], "people:FOLDER", []),
    (["--mixtures", "token-level"], "NashMD", ["--solver", "nash-md", "--tau", "0.1"]),
    (["--concurrency", "3"], "openai:MODEL", ["--augment", "openai:x"]),
    (["--key-variable", "KEY"], "openai:MODEL", ["--opponents", "openai:x"]),
    (["--timeout", "9"], "openai:MODEL", ["--engine", "http://localhost:1/v1"]),
]  # fmt: skip


def _play(words: list[str]) -> SelfPlay:
    return configuration.self_play(configuration.settings(build_parser().parse_args(words)))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("option", "named", "used"), IDLE, ids=[" ".join(row[0]) for row in IDLE])
def test_it_is_refused_before_anything_is_read(
    option: list[str], named: str, used: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*JUDGED, *option]) == 2
    message = capsys.readouterr().err
    name = option[0] if option[0] != "--kv-cache" else "kv_cache"
    assert message.startswith("nashward: ")
    assert message.count("\n") == 1
    assert all(word in message for word in (name, named))
    assert not Path("run").exists()
    if used:
        _play([*(ALIGN if "--oracle" in used else JUDGED), *option, *used])


def test_a_file_is_refused_where_it_says_other_than_the_default() -> None:
    """``nashward config`` writes every setting, so that a default says nothing; a preset is for many runs."""
    for text, refused in (("[fit]\nmargin = 0.5\n", False), ("[fit]\nmargin = 0.7\n", True)):
        Path("mine.toml").write_text(text)
        expected: Any = pytest.raises(NashwardError, match=r"mine\.toml: margin is of the loss simpo")
        with expected if refused else nullcontext():
            _play([*JUDGED, "--config", "mine.toml"])


def test_an_oracle_that_was_fitted_with_its_folds_has_several_judges() -> None:
    Path("fitted/members").mkdir(parents=True)
    assert _play([*ALIGN, "--oracle", "fitted", "--spread-weights"]).config.fit.spread_weights
    Path("fitted/members").rmdir()
    with pytest.raises(NashwardError, match="several judges"):
        _play([*ALIGN, "--oracle", "fitted", "--spread-weights"])
