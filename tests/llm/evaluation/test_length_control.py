"""The length-controlled win rate: the leaderboard's own figures where its data is there, a second route where not."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from nashward.llm.evaluation import NotComparable, Weights, length_controlled_win_rate, predict
from nashward.llm.evaluation.win_rates.cross_validation import PENALTIES, chosen_penalty
from nashward.llm.evaluation.win_rates.keyed_columns import aligned
from nashward.llm.evaluation.win_rates.logistic import fit

controlled: Any = length_controlled_win_rate  # called with data frames' columns, as nobody checks them


class Published:
    """The leaderboard's rows and annotations, by model."""

    def __init__(self, folder: Path):
        with np.load(folder / "annotations.npz") as archive:
            self.held = dict(archive)
        with (folder / "leaderboard.csv").open(encoding="utf-8") as file:
            self.rows = {row["model"]: row for row in csv.DictReader(file)}
        self.d, self.baseline = self.held["instruction_difficulty"], self.held["baseline_length"]
        self.models = [str(name) for name in self.held["models"]]

    def columns(self, model: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        k = self.models.index(model)
        return self.held["preference"][:, k], self.held["output_length"][:, k], self.baseline

    def weights(self, model: str) -> Weights:
        return Weights(*(float(self.rows[model][name]) for name in ("w_length", "w_difficulty", "w_model")))

    def lc(self, model: str) -> float:
        return float(self.rows[model]["length_controlled_winrate"])

    def regularisation(self, model: str) -> float:
        """1 / C of the published fit, which its optimality condition shows: |sum (p - y)|."""
        y, length, baseline = self.columns(model)
        apart = baseline - length
        w = self.weights(model)
        p = expit(w.length * np.tanh(apart / apart.std(ddof=1)) + w.difficulty * self.d + w.model)
        return float(abs((p - y).sum()))

    @property
    def complete(self) -> list[str]:
        return [name for name in self.models if not np.isnan(self.columns(name)[0]).any()]


@pytest.fixture
def published(data: Path) -> Published:
    return Published(data / "alpacaeval")


def random_rows(seed: int, n: int = 300) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    length, baseline = random.integers(100, 3000, n).astype(float), random.integers(100, 3000, n).astype(float)
    d, tanh = random.normal(size=n), np.tanh(random.normal(size=2 * n))
    y = expit(-1.5 * np.tanh((baseline - length) / 900) + 0.7 * d - 1 + random.normal(size=n))
    return {
        "y": y, "length": length, "baseline": baseline, "d": d, "gamed_tanh_length": tanh,
        "gamed_preference": expit(-2 * tanh + 0.5 * np.tile(d, 2) + random.normal(size=2 * n)),
    }  # fmt: skip


def gamed(rows: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: rows[name] for name in ("gamed_tanh_length", "gamed_preference")}


def test_published_weights_give_the_leaderboard(published: Published) -> None:
    assert len(published.complete) == 24
    for model in published.complete:
        assert abs(predict(published.weights(model), published.d).value - published.lc(model)) < 1e-6, model
    # of the one that lacks a prompt the public tool averages the difficulties of the first 804 rows
    weights = published.weights("minotaur-13b")
    assert abs(predict(weights, published.d[:804]).value - published.lc("minotaur-13b")) < 1e-6


def test_refits_are_the_leaderboard(published: Published) -> None:
    for model in published.complete:
        columns, theirs = published.columns(model), published.rows[model]
        default = length_controlled_win_rate(*columns, published.d, published.held)
        assert default.name == "LC"
        assert abs(default.win_rate - float(theirs["win_rate"])) < 1e-9, model
        assert abs(default.value - published.lc(model)) < 0.10, model
        if model == "gpt4_1106_preview":  # the baseline itself: nothing is fitted
            assert (default.value, default.weights) == (50.0, Weights(0, 0, 0))
            continue
        own = length_controlled_win_rate(*columns, published.d, published.held, published.regularisation(model))
        assert abs(own.value - published.lc(model)) < 0.02, model


def test_a_missing_row_is_aligned_by_prompt_where_the_public_tool_takes_the_row_number(published: Published) -> None:
    y, length, baseline = published.columns("minotaur-13b")
    there = ~np.isnan(y)
    prompts = [f"prompt {k}" for k in range(805)]
    by_prompt = [dict(zip(prompts, column.tolist(), strict=True)) for column in (y, length, baseline, published.d)]
    regularisation = 0.3594  # the C = 2.78 of its published fit
    # the tool: difficulties of the first 804 rows, whichever row is missing
    rows = {**published.held, "gamed_difficulty": np.tile(published.d, 2)}
    tool = length_controlled_win_rate(y[there], length[there], baseline[there], published.d[:804], rows, regularisation)
    assert abs(tool.value - published.lc("minotaur-13b")) < 0.02  # 11.465: the leaderboard's figure is the defect's
    right = length_controlled_win_rate(y, length, baseline, published.d, published.held, regularisation)
    assert right.value == pytest.approx(9.10, abs=0.01)
    assert right.prompts == 804
    lacking = [
        {name: value for name, value in own.items() if not np.isnan(by_prompt[0][name])} for own in by_prompt[:3]
    ]
    keyed = length_controlled_win_rate(*lacking, by_prompt[3], published.held, regularisation)  # type: ignore[call-arg, arg-type]
    assert keyed == right
    named = length_controlled_win_rate(
        y[there], length[there], baseline[there], by_prompt[3], published.held, regularisation,
        [prompt for prompt, own in zip(prompts, there, strict=True) if own],
    )  # fmt: skip
    assert named == right
    with pytest.raises(ValueError, match="preference has 804 rows and difficulty 805"):
        length_controlled_win_rate(y[there], length[there], baseline[there], published.d, published.held)


def test_without_gamed_rows_it_is_minimal_and_warns(published: Published) -> None:
    errors = []
    for model in published.complete:
        with pytest.warns(NotComparable, match="not comparable with the AlpacaEval leaderboard"):
            found = length_controlled_win_rate(*published.columns(model))
        assert str(found).startswith("minimal ")
        assert "LC" not in str(found)
        errors.append(abs(found.value - published.lc(model)))
    assert max(errors) > 5  # why it has another name


def test_a_row_that_is_not_judged_changes_nothing() -> None:
    rows = random_rows(0)
    full = {**gamed(rows), "gamed_difficulty": np.tile(rows["d"], 2)}
    found = length_controlled_win_rate(rows["y"], rows["length"], rows["baseline"], rows["d"], full)
    more = [np.append(rows[name], value) for name, value in (("y", np.nan), ("length", 7), ("baseline", 9), ("d", 3))]
    assert length_controlled_win_rate(more[0], more[1], more[2], more[3], full) == found


def test_any_order_of_the_prompts_is_the_same() -> None:
    rows = random_rows(1)
    names = [f"p{k}" for k in range(len(rows["y"]))]
    columns = [dict(zip(names, rows[name], strict=True)) for name in ("y", "length", "baseline", "d")]
    found = length_controlled_win_rate(*columns, gamed(rows))  # type: ignore[call-arg, arg-type]
    shuffled = [{name: own[name] for name in sorted(own, key=lambda n: n[::-1])} for own in columns[:3]]
    again = length_controlled_win_rate(*shuffled, columns[3], gamed(rows))  # type: ignore[call-arg, arg-type]
    assert again.value == pytest.approx(found.value, abs=1e-9)
    plain = length_controlled_win_rate(rows["y"], rows["length"], rows["baseline"], rows["d"], gamed(rows))
    assert plain == found


def test_labels_and_their_sums_make_one_fit() -> None:
    rows = random_rows(2)
    sums = {
        "gamed_tanh_length": rows["gamed_tanh_length"],
        "gamed_s1": rows["gamed_preference"] @ rows["gamed_tanh_length"],
        "gamed_s2": rows["gamed_preference"] @ np.tile(rows["d"], 2),
    }
    columns = (rows["y"], rows["length"], rows["baseline"], rows["d"])
    assert length_controlled_win_rate(*columns, sums).value == pytest.approx(
        length_controlled_win_rate(*columns, gamed(rows)).value, abs=1e-7
    )


def test_the_weights_minimise_the_objective_written_out() -> None:
    """Cross-entropy, a tenth of it for each row of the gamed baseline, which has no w_m, and 1 / C of the sizes."""
    rows = random_rows(3)
    apart = rows["baseline"] - rows["length"]
    own, other = np.tanh(apart / np.std(apart, ddof=1)), rows["gamed_tanh_length"]

    def entropy(y: np.ndarray, z: np.ndarray) -> float:
        return float(np.log1p(np.exp(z)).sum() - y @ z)

    def objective(w: np.ndarray) -> float:
        baseline = w[0] * other + w[1] * np.tile(rows["d"], 2)
        model = w[0] * own + w[1] * rows["d"] + w[2]
        known = entropy(rows["y"], model) + 0.1 * entropy(rows["gamed_preference"], baseline)
        return known + 0.5 * float(np.abs(w).sum())

    found = length_controlled_win_rate(rows["y"], rows["length"], rows["baseline"], rows["d"], gamed(rows), 0.5)
    theirs = minimize(objective, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    np.testing.assert_allclose(found.weights, theirs.x, atol=1e-5)
    assert found.value == pytest.approx(100 * expit(theirs.x[2] + theirs.x[1] * rows["d"]).mean(), abs=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_no_general_optimiser_finds_less(seed: int) -> None:
    random = np.random.default_rng(seed)
    k = 1 + seed % 4
    x, a, y = random.normal(size=(80, k)), random.uniform(0, 2, 80), random.uniform(size=80)
    penalty = 10.0 ** (seed - 3)

    def objective(w: np.ndarray) -> float:
        p = expit(x @ w)
        return float(-a @ (y * np.log(p) + (1 - y) * np.log(1 - p)) + penalty * np.abs(w).sum())

    w = fit(x, a, (a * y) @ x, penalty)
    theirs = minimize(objective, w + random.normal(0, 0.1, k), method="Nelder-Mead", options={"xatol": 1e-10})
    assert objective(w) <= theirs.fun + 1e-12
    np.testing.assert_allclose(theirs.x, w, atol=1e-3)
    np.testing.assert_allclose(fit(x, a, (a * y) @ x, penalty, start=np.full(k, 3.0)), w, atol=1e-7)


def test_a_large_penalty_leaves_nothing_and_equal_features_share() -> None:
    rows = random_rows(3)
    x = np.stack([rows["d"], rows["d"], np.zeros(300)], 1)
    assert not fit(x, np.ones(300), rows["y"] @ x, 1e6).any()
    w, alone = fit(x, np.ones(300), rows["y"] @ x, 0.1), fit(x[:, :1], np.ones(300), rows["y"] @ x[:, :1], 0.1)
    assert w[0] + w[1] == pytest.approx(alone[0], abs=1e-8)
    assert w[2] == 0


def test_features_that_are_nearly_the_same_are_told_apart() -> None:
    """A model that always says the same against short responses: its length features are 1 but for their last digits,
    and along their difference the objective hardly changes."""
    random = np.random.default_rng(0)
    x = np.stack([-1 + 1e-4 * random.uniform(size=40) ** 4, np.ones(40)], 1)
    y, penalty = np.full(40, 0.1), 0.15
    w = fit(x, np.ones(40), y @ x, penalty)

    def objective(v: np.ndarray) -> float:
        return float(np.logaddexp(0, x @ v).sum() - y @ x @ v + penalty * np.abs(v).sum())

    parts = minimize(  # positive and negative parts: smooth within bounds
        lambda v: objective(v[:2] - v[2:]) + penalty * (v.sum() - np.abs(v[:2] - v[2:]).sum()), np.ones(4),
        bounds=[(0, None)] * 4, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 10_000},
    )  # fmt: skip
    assert objective(w) <= parts.fun + 1e-10
    assert w[0] == 0  # of two that do the same the larger one is taken


def test_cross_validation_takes_the_penalty_with_the_least_loss_left_out() -> None:
    random = np.random.default_rng(0)
    x, a = random.normal(size=(60, 3)), random.uniform(0.1, 1, 60)
    y = expit(x @ [1.0, -0.7, 0.0] + random.normal(size=60))
    losses = []
    for penalty in PENALTIES:
        folds = []
        for k in range(5):
            out = (59 - np.arange(60)) % 5 == k
            w = fit(x[~out], a[~out], (a * y)[~out] @ x[~out], penalty)
            z = x[out] @ w
            folds.append(np.mean(a[out] * -(y[out] * np.log(expit(z)) + (1 - y[out]) * np.log(expit(-z)))))
        losses.append(np.mean(folds))
    assert chosen_penalty(x, a, y) == PENALTIES[np.argmin(losses)]
    assert 0 < np.argmin(losses) < 9  # neither end


def test_cross_validation_in_a_win_rate_and_refused_without_labels() -> None:
    rows = random_rows(5)
    columns = (rows["y"], rows["length"], rows["baseline"], rows["d"])
    found = length_controlled_win_rate(*columns, gamed(rows), "cross-validation")
    assert found.regularisation in PENALTIES
    assert found == length_controlled_win_rate(*columns, gamed(rows), found.regularisation)
    sums = {"gamed_tanh_length": rows["gamed_tanh_length"], "gamed_s1": 1.0, "gamed_s2": 1.0}
    for without in (sums, None):
        with pytest.raises(ValueError, match="gamed_pref"):
            length_controlled_win_rate(*columns, without, "cross-validation")


def test_model_against_model() -> None:
    d = np.random.default_rng(0).normal(size=100)
    a, b = Weights(-2.0, 0.9, -1.0), (-1.5, 0.4, 0.3)
    assert predict(a, d, b).value + predict(b, d, a).value == pytest.approx(100, abs=1e-12)
    assert predict(a, d, a).value == 50
    assert predict(a, d, b).value < predict(a, d).value  # b beats the baseline, mostly
    assert predict(a, dict(zip("xyz", d[:3], strict=True))) == predict(a, d[:3])
    assert predict(a, d, b).value == pytest.approx(100 * expit(-1.3 + 0.5 * d).mean())


def test_rates_by_hand() -> None:
    with pytest.warns(NotComparable):
        found = length_controlled_win_rate([1.0, 0.5, 0.2, 0.6], [4, 3, 2, 1], [2, 2, 2, 2])
    assert (found.win_rate, found.discrete_win_rate, found.prompts) == (pytest.approx(57.5), 62.5, 4)
    assert found.win_rate_error == pytest.approx(100 * np.std([1, 0.5, 0.2, 0.6], ddof=1) / 2)
    assert found.alpaca_eval_standard_error == 0  # without difficulties every prompt is alike
    assert found.standard_error > 5  # of four judgements
    with pytest.warns(NotComparable):  # lengths that differ alike say nothing
        assert length_controlled_win_rate([0.9, 0.8], [5, 6], [2, 3]).weights.length == 0


def drawn(random: np.random.Generator, n: int, binary: bool, difficulties: bool, w: Any) -> dict[str, Any]:
    """The columns of n prompts whose judgements follow the model with weights w."""
    d, apart = random.normal(0, 1.48, n), random.normal(-300, 900, n)
    p = expit(w[0] * np.tanh(apart / 900) + (w[1] * d if difficulties else 0) + w[2])
    y = (random.uniform(size=n) < p).astype(float) if binary else random.beta(1.5 * p + 1e-6, 1.5 * (1 - p) + 1e-6)
    columns = {"preference": y, "output_length": 3000 - apart, "baseline_length": np.full(n, 3000.0)}
    return {**columns, "difficulty": d} if difficulties else columns


def covered(n: int, binary: bool, difficulties: bool, times: int, w: Any = (-1.2, 0.9, -0.8)) -> tuple[float, float]:
    """How often the true rate lies within 1.96 standard errors, by ours and by AlpacaEval's."""
    everyone = np.random.default_rng(12345).normal(0, 1.48, 1_000_000)
    truth = 100 * expit(w[2] + (w[1] * everyone if difficulties else np.zeros(1))).mean()
    random, ours, theirs = np.random.default_rng([n, binary, difficulties]), 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotComparable)
        for _ in range(times):
            found = controlled(**drawn(random, n, binary, difficulties, w))
            ours += abs(found.value - truth) <= 1.96 * found.standard_error
            theirs += abs(found.value - truth) <= 1.96 * found.alpaca_eval_standard_error
    return ours / times, theirs / times


@pytest.mark.parametrize("difficulties", [False, True])
def test_the_standard_error_covers_the_true_rate(difficulties: bool) -> None:
    ours, theirs = covered(200, True, difficulties, 400)
    assert 0.92 <= ours <= 0.98
    assert theirs <= 0.75 if difficulties else theirs == 0


@pytest.mark.slow
@pytest.mark.parametrize("n", [200, 805])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("difficulties", [False, True])
def test_the_standard_error_covers_the_true_rate_in_93_to_97_percent(n: int, binary: bool, difficulties: bool) -> None:
    assert 0.93 <= covered(n, binary, difficulties, 2000)[0] <= 0.97


@pytest.mark.parametrize("gamed_rows", [False, True])
def test_the_standard_error_is_that_of_prompts_drawn_again(gamed_rows: bool) -> None:
    rows = random_rows(8)
    more = {**gamed(rows), "gamed_difficulty": np.tile(rows["d"], 2)} if gamed_rows else None
    columns = [rows[name] for name in ("y", "length", "baseline", "d")]
    random = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotComparable)
        found = controlled(*columns, gamed=more)
        again = []
        for _ in range(300):
            pick = random.integers(0, 300, 300)
            again.append(controlled(*(own[pick] for own in columns), gamed=more).value)
    assert found.standard_error == pytest.approx(np.std(again, ddof=1), rel=0.15)
    assert found.standard_error > 1.2 * found.alpaca_eval_standard_error


def test_half_won_and_all_alike_have_an_error_too() -> None:
    """Weights of exactly 0 are estimates as others are; where equal lengths were not seen, prompts are drawn again."""
    with pytest.warns(NotComparable):
        half = controlled([0.0, 1.0] * 50, [5] * 100, [5] * 100)
    assert half.value == 50
    assert half.standard_error == pytest.approx(5, abs=0.1)
    random = np.random.default_rng(0)
    short = 1000 - 1e-3 * random.uniform(size=60) - np.r_[np.zeros(59), 1e-9]
    with pytest.warns(NotComparable):
        far = controlled((random.uniform(size=60) < 0.3).astype(float), short * 1e6, np.zeros(60))
    assert 0 < far.standard_error < 60


def test_a_series_is_by_the_prompts_of_its_index() -> None:
    import pandas as pd

    rows = random_rows(9)
    names = [f"p{k}" for k in range(300)]
    frame = pd.DataFrame({name: rows[name] for name in ("y", "length", "baseline", "d")}, index=names)
    shuffled = frame.sample(frac=1, random_state=0)
    own = {**gamed(rows), "gamed_difficulty": np.tile(rows["d"], 2)}
    plain = controlled(rows["y"], rows["length"], rows["baseline"], rows["d"], own)
    found = controlled(frame["y"], shuffled["length"], frame["baseline"], shuffled["d"], own)
    assert found == plain
    by_row = frame.reset_index(drop=True)  # the index that pandas gives counts the rows
    assert controlled(by_row["y"], by_row["length"], rows["baseline"], by_row["d"], own) == plain
    moved = by_row.sample(frac=1, random_state=1)  # and names them where one of the columns was moved
    assert controlled(by_row["y"], moved["length"], by_row["baseline"], moved["d"], own) == plain
    with pytest.raises(ValueError, match="give prompts"):
        controlled(frame["y"], rows["length"], rows["baseline"], rows["d"], own)
    named = controlled(shuffled["y"], rows["length"], by_row["baseline"], frame["d"], own, prompts=names)
    assert named == plain
    kept = by_row[by_row.index % 7 != 3]  # rows were dropped: prompts is by the same index
    prompts = pd.Series(names)[kept.index]
    dropped = controlled(
        kept["y"],
        moved.loc[kept.index[::-1], "length"],
        kept["baseline"],
        frame["d"],
        own,
        prompts=prompts,
    )
    some = kept.index.to_numpy()
    there = [rows[name][some] for name in ("y", "length", "baseline", "d")]
    assert dropped == controlled(*there, gamed=own)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"output_length": lambda s: s.rename(index={"p3": "other"})}, "output_length has nothing for 1 prompt.*p3"),
        ({"output_length": lambda s: s.rename(index={"p3": "p4"})}, "output_length has 'p4' twice"),
        ({"preference": lambda s: s.rename(index={"p3": None})}, "preference has a row without a key"),
        ({"preference": lambda s: s.astype(object).where(s.index != "p3", "yes")}, "preference holds something"),
        ({"baseline_length": lambda s: s.to_frame()}, "baseline_length is a DataFrame"),
        ({"difficulty": lambda s: s.reset_index(drop=True)}, "difficulty has nothing for 300 prompts, the first 'p0'"),
    ],
)  # fmt: skip
def test_series_whose_keys_disagree_are_refused(change: dict[str, Any], line: str) -> None:
    import pandas as pd

    rows, names = random_rows(9), [f"p{k}" for k in range(300)]
    columns = {
        "preference": pd.Series(rows["y"], names), "output_length": pd.Series(rows["length"], names),
        "baseline_length": pd.Series(rows["baseline"], names), "difficulty": pd.Series(rows["d"], names),
    }  # fmt: skip
    for name, apply in change.items():
        columns[name] = apply(columns[name])
    with pytest.raises(ValueError, match=line):
        controlled(**columns, gamed={**gamed(rows), "gamed_difficulty": np.tile(rows["d"], 2)})


def test_missing_values_of_pandas_are_prompts_that_were_not_judged() -> None:
    import pandas as pd

    rows = random_rows(9, n=40)
    y = pd.Series(rows["y"], dtype="Float64")
    y[3] = pd.NA
    missing = np.where(np.arange(40) == 3, np.nan, rows["y"])
    with pytest.warns(NotComparable):
        found = controlled(y, rows["length"], rows["baseline"])
    with pytest.warns(NotComparable):
        own = controlled(missing, rows["length"], rows["baseline"])
    assert found == own
    assert found.prompts == 39


def test_the_rows_of_the_gamed_baseline_are_matched_by_prompt_too() -> None:
    import pandas as pd

    rows, names = random_rows(10, n=60), [f"p{k}" for k in range(60)]
    d, twice = pd.Series(rows["d"], names), [*names, *names]
    order = np.random.default_rng(0).permutation(120)
    table = pd.DataFrame(gamed(rows), index=twice).iloc[order]
    columns = (rows["y"], rows["length"], rows["baseline"])
    found = controlled(*columns, d, dict(table), prompts=names)
    plain = controlled(*columns, rows["d"], gamed(rows))
    assert found.value == pytest.approx(plain.value, abs=1e-7)
    other = {**dict(table), "gamed_preference": table["gamed_preference"].iloc[::-1]}
    with pytest.raises(ValueError, match="gamed_preference and gamed_tanh_length are of other prompts"):
        controlled(*columns, d, other, prompts=names)
    with pytest.raises(ValueError, match="by prompt and difficulty is not"):
        controlled(*columns, rows["d"], dict(table))
    with pytest.raises(ValueError, match="difficulty has nothing for 'p0"):
        controlled(
            *(own[10:] for own in columns),
            d.iloc[10:],
            dict(table.sort_index()),
            prompts=names[10:],
        )


def test_weights_by_name() -> None:
    import pandas as pd

    own, d = Weights(length=-0.9, difficulty=0.7, model=-1.3), [0.0, 1.0, 2.0]
    row = pd.Series(
        {"not_gamed_baseline.astype(float)": -1.3, "instruction_difficulty": 0.7, "np.tanh(std_delta_len)": -0.9}
    )
    for named in (row, {"model": -1.3, "length": -0.9, "difficulty": 0.7}):
        assert predict(named, d) == predict(own, d)
    with pytest.raises(ValueError, match="the weights are named model; expected length, difficulty, model"):
        predict({"model": 1.0}, d)


def test_a_judge_that_only_likes_length_is_seen_through() -> None:
    rows = random_rows(6)
    longer = rows["length"] + 700
    apart = rows["baseline"] - longer
    liked = expit(-2.0 * np.tanh(apart / apart.std(ddof=1)))
    with pytest.warns(NotComparable):
        found = length_controlled_win_rate(liked, longer, rows["baseline"])
    assert found.win_rate > 65
    assert found.value == pytest.approx(50, abs=1)


ROWS = random_rows(7, n=4)
ONE = dict(zip("wxyz", ROWS["y"], strict=True))
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"preference": [1.2, 0.5, 0.5, 0.5]}, r"preference holds 1.2; expected probabilities"),
    ({"preference": [np.nan] * 3 + [0.5]}, "1 of 4 prompts are judged"),
    ({"preference": [[0.5]] * 4}, r"preference has shape \(4, 1\)"),
    ({"output_length": [1, 2, 3]}, "preference has 4 rows and output_length 3"),
    ({"output_length": [1, 2, 3, np.inf]}, "output_length holds inf"),
    ({"preference": ONE}, "preference is by prompt and output_length is not: give prompts"),
    ({"preference": ONE, "prompts": ["w", "x", "y", "other"]}, "nothing for 1 prompts, the first 'other'"),
    ({"prompts": ["w", "w", "x", "y"]}, "the prompt 'w' is there twice"),
    ({"prompts": ["w"]}, "preference has 4 rows for 1 prompts"),
    ({"regularisation": 0}, "regularisation is 0; expected 1 / C, a positive number"),
    ({"regularisation": "cv"}, "regularisation is 'cv'; expected"),
    ({"difficulty": None}, "the gamed baseline's rows need difficulty"),
    ({"gamed": {"gamed_tanh_length": [0.5]}}, "gamed holds gamed_tanh_length; expected gamed_tanh_length, and"),
    ({"gamed": {"gamed_preferences": [0.5]}}, "gamed holds gamed_preferences; expected of"),
    ({"gamed": {"gamed_tanh_length": [2.0] * 8, "gamed_s1": 0, "gamed_s2": 0}}, "numbers from -1 to 1"),
    ({"gamed": {"gamed_tanh_length": [0.2] * 7, "gamed_s1": 0, "gamed_s2": 0}}, "7 rows, no multiple of the 4"),
    ({"gamed": {**gamed(ROWS), "gamed_difficulty": [1.0]}}, r"gamed_difficulty has shape \(1,\)"),
    ({"gamed": {**gamed(ROWS), "gamed_preference": [1.0]}}, r"gamed_preference has shape \(1,\)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "line"), REFUSED)
def test_what_is_refused(change: dict[str, Any], line: str) -> None:
    good: dict[str, Any] = {
        "preference": ROWS["y"], "output_length": ROWS["length"], "baseline_length": ROWS["baseline"],
        "difficulty": ROWS["d"], "gamed": gamed(ROWS),
    }  # fmt: skip
    with pytest.raises(ValueError, match=line) as caught:
        length_controlled_win_rate(**{**good, **change})
    assert "\n" not in str(caught.value)


def test_columns_by_prompt_are_aligned_and_more_prompts_are_left_out() -> None:
    found = aligned({"a": {"x": 1, "y": 2}, "b": [10, 20]}, prompts=["y", "x"])
    assert {name: own.tolist() for name, own in found.items()} == {"a": [2.0, 1.0], "b": [10.0, 20.0]}


def test_predict_refuses_no_difficulties() -> None:
    with pytest.raises(ValueError, match=r"difficulty has shape \(0,\)"):
        predict((0, 0, 0), [])
