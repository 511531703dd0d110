"""What is found before a run: settings of another kind, texts beyond what the policy was made for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nashward import games, llm
from nashward.llm.policy.model import LanguageModel

from ..tiny_run import quick_run


def test_a_configuration_that_is_a_dict_is_named(tmp_path: Path) -> None:
    settings: Any = {"iterations": 1}
    with pytest.raises(TypeError, match=r"config is a dict.*RunConfig"):
        llm.SelfPlay(
            policy=llm.pocket.POLICY, oracle=llm.pocket.PAIRRM, solver=games.MWU(2.5), prompts=["Why?"],
            folder=tmp_path / "run", config=settings,
        ).run()  # fmt: skip


@pytest.mark.parametrize("loaded", [False, True])
def test_texts_beyond_the_policys_context_are_warned_of(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, loaded: bool
) -> None:
    short = Path(shutil.copytree(tiny_folder, tmp_path / "policy"))
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 40}))
    prompts = ["Name a tree.", "Name a tree. " * 10]
    policy = LanguageModel.from_pretrained(str(short)) if loaded else short
    run = quick_run(policy, tmp_path / "run", prompts=prompts, sampling=llm.Sampling(max_new_tokens=2))
    longest = max(map(run._prompts.length, run.check("sample").kept))
    assert longest + 2 > 40
    with caplog.at_level("WARNING", logger="nashward"):
        run.run("sample", progress=False)
    (warning,) = (line for line in caplog.messages if "max_position_embeddings" in line)
    assert warning.startswith(f"1 prompt of up to {longest} tokens, each with a response of up to 2")
    assert f"than the 40 tokens that {short} was made for" in warning
    caplog.clear()
    quick_run(tiny_folder, tmp_path / "other", prompts=prompts).run("sample", progress=False)
    assert not any("max_position_embeddings" in line for line in caplog.messages)
