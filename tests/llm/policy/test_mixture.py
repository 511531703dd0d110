"""Mixtures of adapters and interpolated adapters: weights, files, what they draw, against the table and PEFT."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from nashward import games, llm
from nashward.cli.main import main
from nashward.llm.policy.adapters.lora import LoraShape, common_base, interpolate, slots_for
from nashward.llm.policy.mixture import Mixture, adapter_folders, linear, nash_weights, uniform
from nashward.llm.policy.model import WEIGHTS

from .. import tiny
from ..test_enumerable import EXACT, GAMES, Restricted, Table, _source
from ..tiny_run import self_play, short_run

IDS = torch.tensor([[0, 4, 50, 5, 60, 61]])


GREEDY = ["--temperature", "0"]


def _adapter(
    source: Path, folder: Path, rank: int, seed: int, alpha: float | None = None, targets: str = "all"
) -> Path:
    """An adapter with random weights that change the model's logits by about 1."""
    model = llm.LanguageModel.from_pretrained(source, lora=llm.Lora(rank, alpha, targets), quantise=False)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.network.named_parameters():
        if "lora_" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    model.save(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters of the tiny model, of other ranks and scales."""
    home = tmp_path_factory.mktemp("pair")
    return _adapter(tiny_folder, home / "small", 2, 1, alpha=6.0), _adapter(tiny_folder, home / "large", 5, 2)


def _logits(source: Path, adapter: Path) -> torch.Tensor:
    """By plain PEFT."""
    network = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(source), str(adapter))
    with torch.no_grad():
        return network(IDS).logits


def test_the_scale_of_an_adapter_is_alpha_over_rank_and_two_where_none_is_given(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    assert [(LoraShape.of(folder).rank, LoraShape.of(folder).scale) for folder in pair] == [(2, 3.0), (5, 2.0)]
    rooted = {"r": 4, "lora_alpha": 6, "use_rslora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(rooted), encoding="utf-8")
    assert LoraShape.of(tmp_path).scale == 3.0


def test_weights() -> None:
    game = games.zoo.comal_cycle()
    for count in (1, 2, 5):
        assert sum(uniform(count)) == pytest.approx(1)
        assert linear(count) == pytest.approx([t / sum(range(1, count + 1)) for t in range(1, count + 1)])
    assert float(games.duality_gap(game, torch.tensor(nash_weights(game)))) < 1e-12
    a, b = Path("a"), Path("b")
    assert Mixture.of([a, b]).members == ((a, 0.5), (b, 0.5))
    assert Mixture.of([a, b], [0, 1]).members == ((b, 1.0),)
    for weights in ([0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0]):
        with pytest.raises(ValueError, match="at least 0 and sum to 1"):
            Mixture.of([a, b], weights)
    with pytest.raises(ValueError, match="2 adapters and 1 weight"):
        Mixture.of([a, b], [1.0])


def test_an_adapter_is_the_same_policy_in_a_larger_slot(tiny_folder: Path, pair: tuple[Path, Path]) -> None:
    """Rank 2 and scale 3 in a slot of rank 5 and scale 2; the other way round it is refused."""
    small, large = pair
    model = llm.LanguageModel.from_pretrained(tiny_folder, large, quantise=False)
    for folder in (small, large, small):
        with model.use_adapter(folder) as network:
            torch.testing.assert_close(network(IDS).logits, _logits(tiny_folder, folder), atol=1e-5, rtol=1e-5)
    model = llm.LanguageModel.from_pretrained(tiny_folder, small, quantise=False)
    with pytest.raises(ValueError, match=r"large .*rank is 5.* 2"):
        model.load("frozen", large)


def test_layers_that_an_adapter_leaves_alone_do_not_keep_another_ones_weights(
    tiny_folder: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    _, large = pair
    shutil.copytree(large, tmp_path / "part")
    state = load_file(large / WEIGHTS)
    save_file({name: matrix for name, matrix in state.items() if "q_proj" in name}, tmp_path / "part" / WEIGHTS)
    config = json.loads((large / "adapter_config.json").read_text())
    (tmp_path / "part" / "adapter_config.json").write_text(json.dumps({**config, "target_modules": ["q_proj"]}))
    model = llm.LanguageModel.from_pretrained(tiny_folder, large, quantise=False)
    for folder in (large, tmp_path / "part"):
        with model.use_adapter(folder) as network:
            torch.testing.assert_close(network(IDS).logits, _logits(tiny_folder, folder), atol=1e-5, rtol=1e-5)


def test_members_on_different_layers_have_room_in_one_model(tiny_folder: Path, tmp_path: Path) -> None:
    """By the words of --lora-targets, and by a pattern with excluded layers; each is PEFT's own policy."""
    attention = _adapter(tiny_folder, tmp_path / "attention", 2, 1, alpha=6.0, targets="attention")
    mlp = _adapter(tiny_folder, tmp_path / "mlp", 3, 2, targets="mlp")
    pattern = _adapter(tiny_folder, tmp_path / "pattern", 2, 3, targets="q_proj")
    config = json.loads((pattern / "adapter_config.json").read_text())
    config |= {"target_modules": r".*\.(q|v)_proj", "exclude_modules": ["v_proj"]}
    (pattern / "adapter_config.json").write_text(json.dumps(config))
    for members in ((attention, mlp), (mlp, pattern), (pattern,)):
        mixture = Mixture.of(members)
        model = llm.LanguageModel.from_pretrained(tiny_folder, lora=mixture.slots, quantise=False)
        for folder in members:
            model.check_room(folder)
            with model.use_adapter(folder) as network:
                torch.testing.assert_close(network(IDS).logits, _logits(tiny_folder, folder), atol=1e-5, rtol=1e-5)
        assert mixture.sample(model, [[4, 50]], 2, llm.Sampling(max_new_tokens=2), 0)
    with pytest.raises(ValueError, match=r"attention changes .*self_attn"):
        llm.LanguageModel.from_pretrained(tiny_folder, mlp, quantise=False).check_room(attention)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.0, 1.0), (1.5, -0.5)])
def test_interpolation_adds_the_updates_exactly(
    weights: tuple[float, float], tiny_folder: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    """Against PEFT's own concatenation on the loaded model, and against one adapter where that is all."""
    small, large = pair
    interpolate(list(zip(pair, weights, strict=True)), tmp_path / "sum")
    assert LoraShape.of(tmp_path / "sum").rank == 7
    found = _logits(tiny_folder, tmp_path / "sum")
    network = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_folder), str(small), "small")
    network.load_adapter(str(large), "large")
    both = [(name, weight) for name, weight in zip(("small", "large"), weights, strict=True) if weight]
    network.add_weighted_adapter([name for name, _ in both], [weight for _, weight in both], "sum", "cat")
    network.set_adapter("sum")
    with torch.no_grad():
        torch.testing.assert_close(found, network(IDS).logits, atol=1e-5, rtol=1e-5)
    assert float((found - _logits(tiny_folder, small)).abs().max()) > 0.1
    if weights == (0.0, 1.0):
        torch.testing.assert_close(found, _logits(tiny_folder, large), atol=1e-5, rtol=1e-5)


def test_interpolation_refuses_what_is_no_plain_lora(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(pair[0], tmp_path / "dora")
    file = tmp_path / "dora" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "use_dora": True}))
    with pytest.raises(ValueError, match=r"dora .*use_dora"):
        interpolate([(pair[1], 0.5), (tmp_path / "dora", 0.5)], tmp_path / "sum")
    with pytest.raises(ValueError, match="no adapters to interpolate"):
        interpolate([], tmp_path / "sum")
    assert not (tmp_path / "sum").exists()


def test_adapters_of_other_bases_are_refused(tiny_folder: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({**weights, "model.norm.weight": 2 * weights["model.norm.weight"]}, other / "model.safetensors")
    foreign = _adapter(other, tmp_path / "foreign", 2, 3)
    with pytest.raises(ValueError, match=r"foreign for .*other"):
        common_base([pair[0], foreign])
    mixture = Mixture.of([foreign])
    with pytest.raises(ValueError, match=r"foreign is for .*other, not for .*--policy"):
        mixture.check(str(tiny_folder))
    model = llm.LanguageModel.from_pretrained(tiny_folder, lora=llm.Lora(2))
    with pytest.raises(ValueError, match="give that one as --policy"):
        mixture.sample(model, [[0, 4]], 1, llm.Sampling(max_new_tokens=2), 0)
    other.rename(tmp_path / "moved")  # of a folder that is gone nothing can be told
    mixture.check(str(tiny_folder))


def test_a_copy_of_the_base_elsewhere_is_the_base(tiny_folder: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """As ``pocket:policy`` is in each installation: both copies are there, and their content is one."""
    copy = shutil.copytree(tiny_folder, tmp_path / "installed" / "policy")
    beside = _adapter(copy, tmp_path / "beside", 2, 3)
    mixture = Mixture.of([pair[0], beside])
    mixture.check(str(tiny_folder))
    mixture.check(str(copy))
    model = llm.LanguageModel.from_pretrained(copy, lora=slots_for([pair[0], beside]))
    found = mixture.sample(model, [[0, 4]], 2, llm.Sampling(max_new_tokens=2), 0)
    assert [len(row) for row in found] == [2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no mixture"),
        ("{", "holds no mixture"),
        ("[]", "holds no mixture"),
        ('{"members": [{"adapter": "a"}]}', "holds no mixture .*'weight'"),
        ('{"members": [{"adapter": "a", "weight": 1}]}', "a is no adapter folder"),
        ('{"members": []}', "at least 0 and sum to 1"),
    ],
)
def test_a_file_that_is_no_mixture_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "m.json").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        Mixture.load(tmp_path / "m.json")


def test_saving_and_loading_changes_no_response(tiny_folder: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Nor does moving the file with its adapters."""
    home = tmp_path / "home"
    own = [Path(shutil.copytree(folder, home / folder.name)) for folder in pair]
    mixture = Mixture.of(own, [0.3, 0.7])
    mixture.save(home / "mixture.json")
    model = llm.LanguageModel.from_pretrained(tiny_folder, pair[1])
    sampling, prompts = llm.Sampling(max_new_tokens=6), [[0, 4, 50 + k, 5] for k in range(6)]
    drawn = mixture.sample(model, prompts, 4, sampling, 3)
    assert {response.weight for row in drawn for response in row} == {1 / 4}  # whichever member it is of
    assert Mixture.load(home / "mixture.json").sample(model, prompts, 4, sampling, 3) == drawn
    moved = home.rename(tmp_path / "elsewhere")
    assert Mixture.load(moved / "mixture.json").sample(model, prompts, 4, sampling, 3) == drawn
    assert mixture_is_both(drawn, model, moved, prompts, sampling)


def mixture_is_both(
    drawn: list[list[Any]], model: llm.LanguageModel, home: Path, prompts: list[list[int]], sampling: Any
) -> bool:
    """Every response is what one of the members gives at its seed, and neither gives all."""
    found = [Mixture.of([home / name]).sample(model, prompts, 4, sampling, 3) for name in ("small", "large")]
    which = [
        (a.ids == c.ids, b.ids == c.ids)
        for row, first, second in zip(drawn, *found, strict=True)
        for c, a, b in zip(row, first, second, strict=True)
    ]
    return all(a or b for a, b in which) and not all(a for a, _ in which) and not all(b for _, b in which)


def test_the_mixture_of_iterates_has_the_gap_of_the_tables_average(tmp_path: Path) -> None:
    """Within 4 standard errors of 3000 responses; its last iterate's gap is another one."""
    game, solver, T = GAMES["comal"], games.MWU(2.0), 6
    responses, texts = _source(3)
    play = self_play(
        policy=tiny.random_policy(tmp_path / "policy", spread=0.3), oracle=Table(game.P, texts), solver=solver,
        prompts=["?"], folder=tmp_path / "run", iterations=T, sampling=responses, fit=EXACT, lora=llm.Lora(rank=4),
    )  # fmt: skip
    run = play.run()
    ids = [play.model.encode(prompt) for prompt in run.prompts.kept]
    with play.model.use_adapter(run.folder / "start" / "adapter"):
        start = torch.tensor([answer.weight for answer in responses.draw(play.model, ids, [])[0]]).double()
    table = games.solve(game, solver, iterations=T, start=start)
    loaded = Mixture.load(run.folder / "mixture.json")
    assert [weight for _, weight in loaded.members] == pytest.approx(uniform(T))
    N = 3000
    (drawn,) = loaded.sample(play.model, ids, N, Restricted(responses), 0)
    found = torch.tensor([texts.index(answer.text) for answer in drawn])
    mix = torch.bincount(found, minlength=3).double() / N
    best = int(game.win_rate(table.average).argmax())
    error = float((game.P[best] ** 2 @ mix - (game.P[best] @ mix) ** 2).sqrt()) * 2 / N**0.5
    assert float(games.duality_gap(game, mix)) == pytest.approx(float(table.gaps["average"][-1]), abs=4 * error)
    assert abs(float(table.gaps["last"][-1] - table.gaps["average"][-1])) > 8 * error


def test_mix_and_answer_from_the_command_line(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs mixed, served, interpolated, and held against each other as a leaderboard reads them."""
    monkeypatch.chdir(tmp_path)
    short_run(tiny_folder, tmp_path / "one").run()
    lora = llm.Lora(rank=3)
    short_run(tiny_folder, tmp_path / "two", games.MWU(1.0), iterations=1, lora=lora, seed=1).run()
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Say {i}"}) + "\n" for i in [*range(5), 0]))
    capsys.readouterr()
    assert main(["mix", "one", "two/iteration-01/adapter", "--weights", "linear", "--out", "m.json"]) == 0
    assert [weight for _, weight in Mixture.load("m.json").members] == pytest.approx(linear(4))
    assert [folder.parent.name for folder in adapter_folders([tmp_path / "one"])] == [
        "start", "iteration-01", "iteration-02"
    ]  # fmt: skip
    assert "0.400  two/iteration-01/adapter" in capsys.readouterr().out
    assert main(["mix", "one", "--interpolate", "--out", "half"]) == 0
    serve = ["answer", "--policy", str(tiny_folder), "--prompts", "prompts.jsonl", "--max-new-tokens", "6", "--quiet"]
    policies = {"mixture": ["--adapter", "m.json"], "half": ["--adapter", "half"], "base": [], "greedy": GREEDY}
    for name, more in policies.items():
        assert main([*serve, *more, "--out", f"answers/{name}.jsonl"]) == 0
    rows = [json.loads(line) for line in Path("answers/mixture.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [*(f"Say {i}" for i in range(5)), "Say 0"]  # none is dropped
    drawn, greedy = (
        [json.loads(line)["output"] for line in Path(f"answers/{name}.jsonl").read_text().splitlines()]
        for name in ("base", "greedy")
    )
    assert greedy[0] == greedy[5]  # of one prompt
    assert drawn[0] != drawn[5]
    oracle = ["--oracle", "nashward.llm.oracles:Length"]
    assert main(["leaderboard", "answers", "--prompts", "prompts.jsonl", *oracle, "--quiet"]) == 0
    nash = [
        "mix",
        "one",
        "--weights",
        "nash",
        "--out",
        "nash.json",
        "--policy",
        str(tiny_folder),
        "--max-new-tokens",
        "6",
    ]
    assert main([*nash, "--prompts", "prompts.jsonl", *oracle]) == 0
    assert sum(weight for _, weight in Mixture.load("nash.json").members) == pytest.approx(1)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["mix", "nowhere", "--out", "m.json"], "nowhere is neither an adapter's folder nor a run's"),
        (["mix", "a", "--out", "m.json", "--weights", "best"],
         "--weights: expected uniform, linear, nash or numbers with commas, got 'best'"),
        (["mix", "a", "--out", "m.json", "--weights", "0.5,0.5"],
         "1 adapter and 2 weights; expected one each, in the order a"),
        (["mix", "a", "--out", "m.json", "--weights", "nash"],
         "--weights nash plays a tournament, which needs --policy"),
        (["mix", "a", "--out", "a", "--interpolate"], "a exists already; --out names a new folder for the adapter"),
        (["mix", "a", "--out", "a"], "a is a folder; --out names a file"),
        (["answer", "--policy", "x", "--prompts", "none.txt", "--out", "o.jsonl"], "none.txt"),
    ],
)  # fmt: skip
def test_bad_input_gives_one_line(
    command: list[str], line: str, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pair[0], "a")
    assert main(command) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert line in message
    assert {file.name for file in tmp_path.iterdir()} == {"a"}
