"""Whatever can be an oracle is one: checkpoints by their configuration, votes, names in Python, functions, judges."""

import gzip
import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.torch import load_file, save_file

from nashward.errors import NashwardError
from nashward.llm.oracles import (
    GPM,
    Function,
    Judge,
    Length,
    PairRM,
    PreferenceOracle,
    RewardFunction,
    RewardModel,
    VoteTable,
    as_oracle,
    check_oracle,
    check_source,
    preference_matrices,
)
from nashward.llm.oracles.fitting.fit import fit_oracle
from nashward.llm.oracles.fitting.settings import FitSettings
from nashward.llm.oracles.fitting.votes import Vote
from nashward.llm.pocket import PAIRRM, POLICY
from nashward.python_object import python_object

from .. import tiny, tiny_words

TEXTS = ["a", "a longer text", "please"]


def reward_length(completions, **kwargs):
    return [float(len(text)) for text in completions]


def reward_prompt(prompts, completions):
    return [float(text.startswith(prompt)) for prompt, text in zip(prompts, completions, strict=True)]


class ShuffledJudge:
    """As TRL's pairwise judges: the index of the winner, -1 where there is none, and an order shuffled at will."""

    def judge(self, prompts, completions, shuffle_order=True):
        assert not shuffle_order
        return [-1 if "?" in (a + b) else int(len(b) > len(a)) for a, b in completions]


class Judging(ShuffledJudge):
    made = 0

    def __init__(self):
        type(self).made += 1


class Shouting(Length):
    name = "shouting"

    def __init__(self):
        super().__init__(-1.0)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    home = tmp_path_factory.mktemp("checkpoints")
    words = tiny_words.base(home / "words")
    votes = [Vote(f"question {k}", "crisp w1", "dry w2", float(k % 3 > 0), 1.0) for k in range(6)]
    settings = FitSettings(folds=2, epochs=1, layout="published")
    for kind in ("gpm", "bt"):
        fit_oracle(votes, words, kind, home / kind, settings, device="cpu", progress=False)
    rows = [{"prompt": "p", "a": "x", "b": "y", "wins": 3, "n": 4}]
    (home / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "votes.jsonl.gz").write_bytes(gzip.compress((home / "votes.jsonl").read_bytes()))
    (home / "votes.json").write_text(json.dumps(rows))
    (home / "votes.csv").write_text("prompt,a,b,wins,n\np,x,y,3,4\n")
    parquet.write_table(arrow.Table.from_pylist(rows), home / "votes.parquet")
    return home


def test_checkpoints_are_told_by_what_they_hold(checkpoints):
    for source, kind in (
        (PAIRRM, PairRM),
        (checkpoints / "gpm", GPM),
        (str(checkpoints / "bt"), RewardModel),
        (checkpoints / "votes.jsonl", VoteTable),
    ):
        check_source(source)
        assert type(as_oracle(source, device="cpu")) is kind


@pytest.mark.parametrize("name", ["votes.jsonl", "votes.jsonl.gz", "votes.json", "votes.csv", "votes.parquet"])
def test_votes_are_read_from_every_format(checkpoints, name):
    for oracle in (check_source(checkpoints / name), as_oracle(str(checkpoints / name))):
        assert type(oracle) is VoteTable
        assert preference_matrices(oracle, ["p"], [["x", "y"]])[0].P[0, 1] == pytest.approx(3.5 / 5, abs=1e-15)


def test_a_broken_file_of_votes_is_found_before_it_is_needed(tmp_path):
    (tmp_path / "votes.jsonl").write_text('{"prompt": "p", "a": "x", "b": "y", "wins": 3, "n": 2}\n')
    with pytest.raises(ValueError, match=r"votes\.jsonl: row 1 has wins"):
        check_source(tmp_path / "votes.jsonl")
    (tmp_path / "cut.jsonl").write_text('{"prompt": "p", "a"')
    with pytest.raises(ValueError, match=r"cut\.jsonl is not valid JSONL"):
        check_source(tmp_path / "cut.jsonl")


@pytest.mark.parametrize("source", [Judging, f"{__name__}:Judging"])
def test_a_class_is_made_once_where_what_was_checked_is_taken(source):
    before = Judging.made
    oracle = as_oracle(check_source(source))
    assert isinstance(oracle, Judge)
    assert type(oracle.wrapped) is Judging
    assert Judging.made == before + 1
    assert check_source(oracle) is oracle
    assert check_source(PAIRRM) is PAIRRM  # no weight is read


@pytest.mark.parametrize("kind", ["pairrm", "gpm", "bt"])
def test_half_a_surrogate_pair_is_read_as_a_question_mark(checkpoints, kind):
    oracle = as_oracle(PAIRRM if kind == "pairrm" else checkpoints / kind, device="cpu")
    broken, whole = (oracle.raw_logits([f"ok {c}"], [[f"{c} dry", f"w1 {c}"]], [[(0, 1)]]) for c in ("\ud83d", "?"))
    np.testing.assert_array_equal(broken, whole)
    assert np.isfinite(broken).all()
    assert oracle.truncated("ok \ud83d", ["\udc00"]) == 0


def test_an_oracle_is_itself_and_a_class_is_made():
    oracle = Length()
    assert as_oracle(oracle) is oracle
    assert type(as_oracle(Shouting)) is Shouting
    assert type(as_oracle(f"{__name__}:Shouting")) is Shouting
    assert as_oracle("nashward.llm.oracles:Length").name == "length"


def test_a_name_may_lie_in_a_file_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_rules.py").write_text("def judge(prompts, completions):\n    return [1.0] * len(completions)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert as_oracle("my_rules:judge").name == "judge"
    del sys.modules["my_rules"]


def test_reward_functions_as_trl_takes_them():
    one = as_oracle(reward_length)
    assert isinstance(one, RewardFunction)
    assert one.symmetric
    assert one.transitive
    P = preference_matrices(one, ["p"], [TEXTS])[0].P
    np.testing.assert_allclose(P[1, 0], 1 / (1 + np.exp(-12.0)), rtol=1e-12)
    two = as_oracle([reward_length, reward_prompt])
    assert two.name == "reward_length + reward_prompt"
    # each completion goes with its own prompt
    (logits,) = two.raw_logits(["a"], [TEXTS], [[(0, 1), (2, 0)]])
    np.testing.assert_allclose(logits, [1 - 13 + 0.0, 6 - 1 - 1.0])
    weighed = RewardFunction([reward_length, reward_prompt], [0.5, 2.0], temperature=2.0)
    np.testing.assert_allclose(weighed.raw_logits(["p"], [TEXTS], [[(2, 0)]])[0], [(0.5 * 5 + 2.0) / 2])
    assert check_oracle(one, cache=False)


def test_a_reward_that_is_not_given_is_missing():
    oracle = as_oracle(lambda prompts, completions: [None if text == "a" else 1.0 for text in completions])
    result = preference_matrices(oracle, ["p"], [TEXTS])[0]
    assert np.isnan(result.P[0, 1:]).all()
    assert result.P[1, 2] == 0.5
    assert result.meta["missing"] == 2


def test_a_judge_as_trl_had_them():
    oracle = as_oracle(ShuffledJudge())
    assert isinstance(oracle, Judge)
    result = preference_matrices(oracle, ["p"], [["a", "bb", "?"]])[0]
    assert result.P[1, 0] == 1.0  # the same winner in both orders
    assert result.P[0, 1] == 0.0
    assert np.isnan(result.P[2, :2]).all()  # -1 is no verdict, and never a coin flip
    assert result.meta["order_gap"] == 0.0
    first = Judge(type("First", (), {"judge": lambda self, prompts, pairs: [0] * len(prompts)})())
    tied = preference_matrices(first, ["p"], [["a", "b"]])[0]  # whoever is shown first: two sure verdicts, a tie
    assert tied.P[0, 1] == 0.5
    assert tied.meta["order_gap"] == np.inf
    sure = Judge(
        type("Sure", (), {"judge": lambda self, prompts, pairs: [0.75 if a < b else 0.25 for a, b in pairs]})()
    )
    np.testing.assert_allclose(preference_matrices(sure, ["p"], [["a", "b"]])[0].P[0, 1], 0.75, rtol=1e-12)


def test_contradicting_verdicts_of_one_side_alone_stay_sure():
    tables = {("a", "b"): 1.0, ("b", "a"): 0.3}
    oracle = Function(lambda prompt, a, b: tables[a, b], name="half sure")
    assert preference_matrices(oracle, ["p"], [["a", "b"]])[0].P[0, 1] == 1.0


def test_aggregations_on_sure_verdicts_are_refused():
    oracle = Function(lambda prompt, a, b: float(a < b), name="sure")
    with pytest.raises(ValueError, match=r"averages logits, .*infinite"):
        preference_matrices(oracle, ["p"], [["a", "b"]], aggregation="hodge")
    with pytest.raises(ValueError, match="expected one of calibrated, hodge, sppo-official"):
        preference_matrices(oracle, ["p"], [["a", "b"]], aggregation="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not defined against opponents"):
        preference_matrices(oracle, ["p"], [["a"]], [["b"]], aggregation="hodge")


def test_hodge_is_the_closest_table_without_a_cycle():
    rng = np.random.default_rng(0)
    L = rng.normal(0.0, 2.0, (4, 4))
    oracle = Function(lambda prompt, a, b: float(1 / (1 + np.exp(-L[int(a), int(b)]))), name="table")
    P = preference_matrices(oracle, ["p"], [list("0123")], aggregation="hodge")[0].P
    A = (L - L.T) / 2
    # least squares for scores, by another route
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    design = np.zeros((len(pairs), 4))
    for row, (i, j) in enumerate(pairs):
        design[row, i], design[row, j] = 1.0, -1.0
    s = np.linalg.lstsq(design, np.array([A[i, j] for i, j in pairs]), rcond=None)[0]
    np.testing.assert_allclose(P, 1 / (1 + np.exp(s - s[:, None])), atol=1e-9)
    assert (P + P.T == 1.0).all()
    assert PairRM.from_pretrained(PAIRRM, device="cpu", aggregation="hodge").aggregation == "hodge"


def test_hodge_with_missing_judgements_fits_those_that_are_there():
    """Scores of a path of judgements are read off it; what was not judged stays missing."""
    logits = {("0", "1"): 1.0, ("1", "2"): 0.5}
    logits |= {(b, a): -value for (a, b), value in logits.items()}

    def answer(prompt, a, b):
        return 1 / (1 + np.exp(-logits[a, b])) if (a, b) in logits else None

    result = preference_matrices(Function(answer, name="path"), ["p"], [list("0123")], aggregation="hodge")[0]
    judged = [(0, 1), (1, 2), (1, 0), (2, 1)]
    for i in range(4):
        for j in range(4):
            assert np.isnan(result.P[i, j]) == (i != j and (i, j) not in judged)
    np.testing.assert_allclose([result.P[0, 1], result.P[1, 2]], 1 / (1 + np.exp([-1.0, -0.5])), atol=1e-12)


def test_members_that_are_sure_of_opposite_things_leave_it_missing():
    class Split(Function):
        def raw_logits(self, prompts, candidates, pairs):
            signs = [np.array([1.0 if i < j else -1.0 for i, j in own]) for own in pairs]
            return [np.stack([np.inf * sign, -np.inf * sign]) for sign in signs]

    split = Split(lambda prompt, a, b: 0.5, name="split", symmetric=True)
    result = preference_matrices(split, ["p"], [["a", "b"]])[0]
    assert np.isnan(result.P[0, 1])
    assert result.meta["missing"] == 1


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (42, ValueError, "42 is no oracle; expected the folder or hub id"),
        ([], ValueError, "is no oracle"),
        ("nowhere/at/all", FileNotFoundError, "no oracle nowhere/at/all: there is no such folder, and a hub id reads"),
        ("missing.jsonl", FileNotFoundError, "there is no file of votes missing.jsonl"),
        ("no_such_module:judge", ValueError, "No module named .no_such_module. .*expected module:name"),
        ("nashward.llm.oracles:Nothing", ValueError, "has no attribute .?Nothing"),
        ("real:smollm2-135m", ValueError, "judge:real:smollm2-135m.*fit-oracle"),
        (lambda prompt, first, second: 0.5, ValueError, "takes no completions; .*use Function"),
        (POLICY, ValueError, "is a causal language model .*--policy and --oracle may be swapped"),
        (
            "./mymod.py:polite",
            ValueError,
            r"'\./mymod\.py' is no name of a module; expected module:name, .*without a path",
        ),
        (".mymod:polite", ValueError, r"'\.mymod' is no name of a module"),
        (":polite", ValueError, "'' is no name of a module"),
        ("nashward.llm.oracles:", ValueError, "has no attribute .?'.*; expected module:name"),
        ("broken_raises:polite", ValueError, "broken_raises cannot be imported: RuntimeError: no such weather"),
        (
            "broken_syntax:polite",
            ValueError,
            r"broken_syntax cannot be imported: SyntaxError: .*broken_syntax\.py, line 1",
        ),
        ("broken_imports:polite", ValueError, "broken_imports cannot be imported: .*no_such_package"),
        ("broken_exits:polite", ValueError, "broken_exits cannot be imported: SystemExit: 3"),
        ("nashward.llm.oracles:PairRM", ValueError, "PairRM cannot be made without arguments: .*missing 2 required"),
        (PreferenceOracle, ValueError, "PreferenceOracle is abstract: it lacks raw_logits"),
        ("nashward.llm.oracles:Length:0.2", ValueError, "oracles:Length are NAME=VALUE.*got '0.2'"),
        ("nashward.llm.oracles:Length:scale", ValueError, "NAME=VALUE.*got 'scale'"),
        ("C:\\models\\pairrm", FileNotFoundError, r"no oracle C:\\models\\pairrm: there is no such folder"),
        ("missing.csv", FileNotFoundError, r"there is no file of votes missing\.csv"),
    ],
)
def test_what_is_no_oracle_is_told_in_one_line(tmp_path, monkeypatch, source, error, message):
    (tmp_path / "broken_raises.py").write_text("raise RuntimeError('no such weather\\nthan today')")
    (tmp_path / "broken_syntax.py").write_text("def polite(:")
    (tmp_path / "broken_imports.py").write_text("import no_such_package")
    (tmp_path / "broken_exits.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    for function in (check_source, as_oracle):
        with pytest.raises(error, match=message) as caught:
            function(source)
        assert "\n" not in str(caught.value)


def test_a_module_may_be_called_py(tmp_path, monkeypatch):
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "__init__.py").write_text("")
    (tmp_path / "packed" / "py.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert python_object("packed.py:answer") == 42
    with pytest.raises(NashwardError, match=r"write absent:answer, the module without \.py"):
        python_object("absent.py:answer")


def test_what_a_module_has_is_named_and_a_judge_that_may_be_of_one(tmp_path, monkeypatch):
    (tmp_path / "judges.py").write_text("import os\nclass Short: pass\nclass Questions: pass\n_hidden = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NashwardError, match="it has Questions, Short;"):
        python_object("judges:Question")
    with pytest.raises(NashwardError, match="has no attribute"):
        python_object("judges:_hidden.more")
    with pytest.raises(FileNotFoundError, match="judges:Questions"):
        check_source("judge:Questions")
    with pytest.raises(FileNotFoundError) as other:
        check_source("judge:models/Questions")
    assert "judges:" not in str(other.value)


class Evil:
    def __reduce__(self):
        return (print, ("code in a pickle was run",))


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Evil()}))


def _evil_torch(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Evil()}, folder / "pytorch_model.bin")


def _no_tokenizer(folder: Path) -> None:
    for file in folder.rglob("tokenizer*"):
        file.unlink()


def _whole_numbers(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    name = max(state, key=lambda key: state[key].ndim)
    state[name] = state[name].int()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["pairrm", "gpm", "bt"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (tiny.truncate_weights, "cannot be read"),
        (_pickled, "is a pickle that holds more than tensors"),
        (_evil_torch, "is a pickle that holds more than tensors"),
        (_no_tokenizer, "has no tokenizer in"),
        (_whole_numbers, "of whole numbers"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not valid JSON"),
    ],
)
def test_damaged_checkpoints_are_told_in_one_line(tmp_path, checkpoints, capsys, kind, damage, message):
    source = PAIRRM if kind == "pairrm" else checkpoints / kind
    folder = Path(shutil.copytree(source, tmp_path / "copy"))
    damage(folder)
    reader: Any = {"pairrm": PairRM, "gpm": GPM, "bt": RewardModel}[kind]
    with pytest.raises((ValueError, OSError), match=message) as caught:
        reader.from_pretrained(folder, device="cpu")
    assert len(str(caught.value).splitlines()) == 1
    assert "code in a pickle" not in capsys.readouterr().out


@pytest.mark.parametrize("values", [{"hidden_size": "large"}, {"layer_norm_eps": None}, {"model_type": None}])
def test_settings_of_no_network_are_those_of_the_checkpoint_itself(tmp_path, values):
    folder = Path(shutil.copytree(PAIRRM, tmp_path / "copy"))
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    with pytest.raises(ValueError, match=r"copy/config\.json cannot be read") as caught:
        check_source(str(folder))
    assert "hf download" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pairrm", "gpm", "bt"])
def test_nan_in_the_weights_is_told(tmp_path, checkpoints, kind):
    source = PAIRRM if kind == "pairrm" else checkpoints / kind
    folder = Path(shutil.copytree(source, tmp_path / "copy"))
    state = load_file(folder / "model.safetensors")
    name = next(key for key in state if "embed" in key)
    state[name][:] = float("nan")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    reader: Any = {"pairrm": PairRM, "gpm": GPM, "bt": RewardModel}[kind]
    oracle = reader.from_pretrained(folder, device="cpu")
    with pytest.raises(ValueError, match=r"gave NaN for \d+ of \d+ pairs.*weights are damaged"):
        preference_matrices(oracle, ["p"], [["a", "b"]])


def test_a_wrong_shape_loses_no_earlier_answer(tmp_path):
    class Breaking(Function):
        def raw_logits(self, prompts, candidates, pairs):
            logits = super().raw_logits(prompts, candidates, pairs)
            return [own[:1] if prompt == "third" else own for prompt, own in zip(prompts, logits, strict=True)]

    asked: list[str] = []

    def answer(prompt: str, a: str, b: str) -> float:
        asked.append(prompt)
        return 0.25

    oracle = Breaking(answer, name="breaking", fingerprint="1")
    candidates = [["a", "b"]] * 3
    with pytest.raises(ValueError, match=r"shape \(1,\) for prompt 2"):
        preference_matrices(oracle, ["first", "second", "third"], candidates, cache=tmp_path / "c")
    asked.clear()
    sound = Function(answer, name="breaking", fingerprint="1")
    preference_matrices(sound, ["first", "second", "third"], candidates, cache=tmp_path / "c")
    assert asked == ["third", "third"]


def test_members_of_another_model_are_refused(tmp_path, checkpoints):
    folder = Path(shutil.copytree(checkpoints / "gpm", tmp_path / "copy"))
    save_file({"stranger": torch.zeros(2)}, folder / "members" / "fold-0.safetensors")
    with pytest.raises(ValueError, match=r"fold-0\.safetensors .*stranger"):
        GPM.from_pretrained(folder, device="cpu")
