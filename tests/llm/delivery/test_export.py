"""What is exported loads in plain transformers and plain peft as the policy of the run; a wrong merge is caught."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import LanguageModel, pocket
from nashward.llm.delivery.artefacts import Artefact
from nashward.llm.delivery.merge import merged, quantised_layers, stored_base
from nashward.llm.delivery.replay import replay
from nashward.llm.delivery.replay_sample import replay_sample
from nashward.llm.delivery.verify import reference
from nashward.llm.evaluation.players import policies
from nashward.llm.policy.mixture import Mixture
from nashward.llm.store.run_folder import RunFolder

from .. import tiny_run

QUESTIONS = [
    f"{ask} {what}?" for ask in ("Why is there", "Tell me about", "What is") for what in ("rain", "a river", "bread")
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the pocket policy, whose base is stored in float16 and played in 4 bits."""
    home = tmp_path_factory.mktemp("export")
    (home / "prompts.txt").write_text("\n".join(QUESTIONS))
    options = "--quantise --iterations 2 --responses 4 --max-new-tokens 16 --held-out 0 --learning-rate 3e-3 --rank 4"
    inputs = ["--policy", pocket.POLICY, "--oracle", pocket.PAIRRM, "--prompts", home / "prompts.txt"]
    assert main([*map(str, ["align", *inputs, "--out", home / "run"]), *options.split(), "--quiet"]) == 0
    return home / "run"


@pytest.fixture(scope="module")
def whole(run: Path) -> Path:
    """The last iterate, merged."""
    out = run.parent / "merged"
    assert main(["export", str(run), "--to", "merged", "--out", str(out), "--quiet"]) == 0
    return out


def _last(run: Path) -> Path:
    return run / "iteration-02" / "adapter"


def test_a_merged_folder_is_the_policy_in_plain_transformers(run: Path, whole: Path) -> None:
    texts = replay_sample(RunFolder(run), 20).texts
    plain = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32)
    model = LanguageModel.from_pretrained(pocket.POLICY, _last(run), quantise=False)
    with model.use_adapter(_last(run)) as network:
        ours = replay(network, texts, "cpu").logprobs
    assert AutoModelForCausalLM.from_pretrained(whole, dtype="auto").dtype == torch.float16  # as the base is stored
    theirs = replay(plain, texts, "cpu").logprobs
    base = replay(stored_base(pocket.POLICY).float(), texts, "cpu").logprobs
    assert float((theirs - ours).abs().mean()) < 0.05 * float((base - ours).abs().mean())


def test_tokenizer_and_template_are_as_they_were(whole: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (whole / name).read_bytes() == (Path(pocket.POLICY) / name).read_bytes()
    turns = [{"role": "user", "content": "Name a river."}]
    ids: list[Any] = [
        AutoTokenizer.from_pretrained(place).apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        for place in (whole, pocket.POLICY)
    ]
    assert ids[0] == ids[1]


@pytest.mark.slow
def test_a_verification_is_recorded_and_names_the_better_base(
    run: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads((whole / "export.json").read_text())["verification"]
    assert found["failures"] == []
    assert found["responses"] == 36
    assert found["update"] == pytest.approx(1, abs=0.1)
    assert 0 < found["win_rate"]["effective"] <= 36
    low, high = found["win_rate"]["interval"]
    assert low < found["win_rate"]["value"] < high
    # the run had 4-bit weights: merged into these, only the rounding to 16 bits is left
    assert found["other_merge"]["drift"]["mean"] < 0.3 * found["drift"]["mean"]
    out = run.parent / "merged-4"
    assert main(["export", str(run), "--to", "merged", "--merge-into", "4-bit", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "nearer to the policy that was trained: the merge into the 4-bit base" in told
    assert json.loads((out / "export.json").read_text())["verification"]["drift"]["mean"] == pytest.approx(
        found["other_merge"]["drift"]["mean"], rel=0.05
    )


def _wrong(whole: Path, place: Path, run: Path, mistake: str) -> Path:
    """The merged folder with another update: twice as large, with B transposed, or none."""
    shutil.copytree(whole, place)
    base, weights = (load_file(folder / "model.safetensors") for folder in (Path(pocket.POLICY), place))
    adapter = load_file(_last(run) / "adapter_model.safetensors")
    for name, matrix in weights.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_B.weight" in adapter:
            A, B = (adapter[f"{stem}.lora_{factor}.weight"] for factor in "AB")
            scale = json.loads((_last(run) / "adapter_config.json").read_text())["lora_alpha"] / len(A)
            update = {
                "right": scale * B @ A, "doubled": 2 * scale * B @ A, "lost": torch.zeros_like(matrix),
                "transposed": scale * B.T.reshape(B.shape) @ A,
            }[mistake]  # fmt: skip
            weights[name] = (base[name].float() + update).to(matrix.dtype)
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    return place


@pytest.mark.parametrize(
    "mistake",
    ["right", "transposed", *(pytest.param(mistake, marks=pytest.mark.slow) for mistake in ("doubled", "lost"))],
)
def test_a_wrong_merge_is_caught(
    run: Path, whole: Path, tmp_path: Path, mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = _wrong(whole, tmp_path / "other", run, mistake)
    code = main(["export", str(run), "--to", "merged", "--out", str(place), "--existing"])
    found = json.loads((place / "export.json").read_text())["verification"]
    expected = {"right": 1, "doubled": 2, "transposed": 0, "lost": 0}[mistake]
    assert found["update"] == pytest.approx(expected, abs=0.4)
    assert code == (0 if mistake == "right" else 1)
    assert ("FAILED" in capsys.readouterr().out) == (mistake != "right")


@pytest.mark.slow
def test_a_bug_of_the_merge_itself_ends_with_1(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nashward.llm.delivery.merge.update", lambda layer: 2 * layer.get_delta_weight("default"))
    command = ["export", str(run), "--to", "merged", "--out", str(tmp_path / "twice"), "--quiet"]
    assert main(command) == 1
    assert main([*command[:-3], "--out", str(tmp_path / "blind"), "--no-verify", "--quiet"]) == 0
    assert json.loads((tmp_path / "blind" / "export.json").read_text())["verification"] is None


def test_an_adapter_loads_in_plain_peft(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "adapter"
    assert main(["export", str(run), "--to", "adapter", "--out", str(out), "--base-name", "a/b", "--quiet"]) == 0
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "a/b"
    assert "--base-name" not in capsys.readouterr().out
    here = tmp_path / "here"
    assert main(["export", str(run), "--to", "adapter", "--out", str(here), "--no-verify", "--quiet"]) == 0
    named = json.loads((here / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert Path(named).is_dir()
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert named in note
    assert "--base-name ID" in note
    texts = replay_sample(RunFolder(run), 12).texts
    base = AutoModelForCausalLM.from_pretrained(pocket.POLICY, dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, str(out)).eval()
    model = LanguageModel.from_pretrained(pocket.POLICY, _last(run), quantise=False)
    with model.use_adapter(_last(run)) as network:
        ours = replay(network, texts, "cpu").logprobs
    assert float((replay(plain, texts, "cpu").logprobs - ours).abs().max()) < 1e-4


@pytest.mark.slow
def test_a_mixture_is_its_adapters_with_weights(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mixture"
    assert main(["export", str(run), "--to", "adapter", "--of", "mixture", "--out", str(out)]) == 0
    exported, played = Mixture.load(out / "mixture.json"), Mixture.load(run / "mixture.json")
    assert [weight for _, weight in exported.members] == [weight for _, weight in played.members]
    assert [folder.parent for folder, _ in exported.members] == [out.resolve()] * 2
    assert "verified" in capsys.readouterr().out
    assert main(["export", str(run), "--to", "merged", "--of", "mixture", "--out", str(tmp_path / "no")]) == 2
    assert "--interpolate" in capsys.readouterr().err


@pytest.mark.slow
def test_averaged_weights_are_told_their_cost(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--of", "mixture", "--interpolate", "--out"]
    assert main(["export", str(run), "--to", "merged", *options, str(tmp_path / "one")]) == 0
    told = capsys.readouterr().out
    assert "another policy than the mixture" in told
    assert json.loads((tmp_path / "one" / "export.json").read_text())["interpolated"] is True
    assert main(["export", str(run), "--to", "adapter", "--interpolate", "--out", str(tmp_path / "two")]) == 2
    assert "--of mixture" in capsys.readouterr().err


def test_merging_into_the_4_bit_base_is_the_run_to_the_last_digits(two_layers: Path, tmp_path: Path) -> None:
    """A base that is stored in float32 has no other rounding than that to 4 bits."""
    play = tiny_run.quick_run(two_layers, tmp_path / "run")
    play.run(progress=False)
    home = RunFolder(tmp_path / "run")
    policy = policies(home)["iteration-02"]
    known = reference(play, policy, 30)
    assert len(known.quantised) == 14  # all linear layers of both blocks, not the head
    network = merged(two_layers, policy.members[0][0], "4-bit", known.quantised)
    logprobs = replay(network, known.stored.texts, "cpu").logprobs
    assert float((logprobs - known.policy.logprobs).abs().max()) < 1e-3
    stored = replay(merged(two_layers, policy.members[0][0], "16-bit"), known.stored.texts, "cpu").logprobs
    assert float((stored - known.policy.logprobs).abs().max()) > 0.1


@pytest.mark.slow
def test_a_run_in_float32_is_its_16_bit_merge(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--no-quantise --iterations 1 --responses 3 --max-new-tokens 12 --held-out 0 --rank 2 --quiet"
    inputs = ["--policy", pocket.POLICY, "--oracle", pocket.PAIRRM, "--prompts", run.parent / "prompts.txt"]
    assert main([*map(str, ["align", *inputs, "--out", tmp_path / "run"]), *options.split()]) == 0
    assert main(["export", str(tmp_path / "run"), "--to", "merged", "--out", str(tmp_path / "whole")]) == 0
    found = json.loads((tmp_path / "whole" / "export.json").read_text())["verification"]
    assert found["other_merge"] is None
    assert found["update"] == pytest.approx(1, abs=0.1)
    assert 0 < found["drift"]["mean"] < found["base"]["mean"] + 0.01
    assert "merge into the 4-bit" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_that_is_not_quantised_has_no_4_bit_base(tiny_folder: Path, tmp_path: Path) -> None:
    play = tiny_run.quick_run(tiny_folder, tmp_path / "run", quantise=False)
    play.run(progress=False)
    artefact = Artefact(play, "iteration-02", policies(RunFolder(tmp_path / "run"))["iteration-02"], "4-bit")
    with pytest.raises(NashwardError, match="did not quantise"):
        artefact.write(tmp_path / "out", None)
    assert not (tmp_path / "out").exists()
    whole = Artefact(play, "iteration-02", artefact.policy, "16-bit")
    known, _ = whole.reference(30)
    whole.write(tmp_path / "whole", known.quantised)
    verdict = whole.verify(tmp_path / "whole", known, progress=lambda message: None)
    assert verdict.passed
    assert verdict.other is None
    assert verdict.found.drift.largest < 1e-3
    assert verdict.found.drift.greedy > 0.99


@pytest.mark.slow
def test_the_start_has_no_update_to_look_for(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "--to", "adapter", "--of", "start", "--out", str(tmp_path / "start")]) == 0
    assert "no update to look for" in capsys.readouterr().out


def test_quantised_layers_are_named_as_in_the_base(run: Path) -> None:
    model = LanguageModel.from_pretrained(pocket.POLICY, _last(run), quantise=True)
    names = {name for name, _ in stored_base(pocket.POLICY).named_modules()}
    found = quantised_layers(model.network)
    assert len(found) == 28
    assert set(found) <= names


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--to", "merged", "--of", "iteration-09"], "iteration-09"),
        (["--to", "adapter", "--merge-into", "4-bit"], "--merge-into"),
        (["--to", "preferences", "--interpolate"], "--interpolate"),
        (["--to", "preferences", "--limit", "3"], "--limit"),
        (["--to", "model-card", "--no-verify"], "--no-verify"),
        (["--to", "merged", "--limit", "0"], "--limit"),
        (["--to", "merged", "--responses", "0"], "--responses"),
        (["--to", "merged", "--existing", "--no-verify"], "--existing"),
    ],
)
def test_what_is_refused(
    run: Path, tmp_path: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), *options, "--out", str(tmp_path / "out")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "lacks"), [("merged", "config.json"), ("adapter", "adapter_config.json")])
def test_what_another_kind_of_export_wrote_is_not_verified(
    run: Path, tmp_path: Path, kind: str, lacks: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"merged": "adapter_config.json", "adapter": "config.json"}[kind]
    (tmp_path / other).write_text("{}")
    assert main(["export", str(run), "--to", kind, "--existing", "--out", str(tmp_path)]) == 2
    assert f"no {lacks}" in capsys.readouterr().err


def test_weights_that_were_cut_are_named(
    run: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path / "cut")
    with (tmp_path / "cut" / "model.safetensors").open("r+b") as weights:
        weights.truncate(1000)
    assert main(["export", str(run), "--to", "merged", "--existing", "--out", str(tmp_path / "cut")]) == 2
    assert str(tmp_path / "cut") in capsys.readouterr().err


def test_a_folder_that_is_there_is_not_overwritten(run: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (whole / "model.safetensors").read_bytes()
    assert main(["export", str(run), "--to", "merged", "--out", str(whole)]) == 2
    assert "--existing" in capsys.readouterr().err
    assert (whole / "model.safetensors").read_bytes() == before
