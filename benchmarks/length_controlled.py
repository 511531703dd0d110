"""The length-controlled win rate of AlpacaEval 2: the time of a fit, by nashward and by what alpaca_eval runs.

alpaca_eval 0.6.6 fits scikit-learn's LogisticRegressionCV (l1, liblinear, ten values of C, five folds by row, each row
once with label 1 and once with label 0) on 1610 rows of the gamed baseline and 805 of a model. It always
cross-validates; that fit is made here with the same class, settings, scorer and folds, from the finished design matrix:
reading, pandas and patsy are not timed. Against it: ``length_controlled_win_rate`` whole, with its checks and features,
at a fixed 1 / C and with cross-validation. For scale also liblinear's single fit at that fixed C.

The labels of the gamed rows are not public: they are imputed, so that their sums are the published ones. Without the
AlpacaEval extracts (NASHWARD_DATA) rows of the same number are drawn at random.

    pip install scikit-learn
    python benchmarks/length_controlled.py --models 3

With ``--coverage`` nothing is timed: judgements are drawn from a known model, and it is counted how often the rate that
is true there lies within 1.96 standard errors, by ours and by AlpacaEval's. For scale: the bootstrap over prompts.

    python benchmarks/length_controlled.py --coverage 2000
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from measure import cpu, in_turns, text
from scipy.optimize import root
from scipy.special import expit

from nashward.llm.evaluation import length_controlled_win_rate
from nashward.llm.evaluation.win_rates.length_control import GAMED

DATA = Path(os.environ.get("NASHWARD_DATA") or Path(__file__).parents[2] / "shared" / "data") / "alpacaeval"
FIXED, CV = "fixed 1 / C", "cross-validated"
LEAST = {FIXED: 60, CV: 4}  # times faster than the public tool's fit


def extract() -> dict[str, np.ndarray]:
    if (DATA / "annotations.npz").is_file():
        with np.load(DATA / "annotations.npz") as archive:
            data = dict(archive)
        keep = ~np.isnan(data["preference"]).any(0) & (data["output_length"] != data["baseline_length"][:, None]).any(0)
        return {**data, **{name: data[name][..., keep] for name in ("models", "preference", "output_length")}}
    print(f"{DATA} does not exist: random rows of the same number")
    random = np.random.default_rng(0)
    d, tanh = random.normal(0, 1.5, 805), np.tanh(random.normal(0, 1, 1610))
    length = random.integers(300, 3000, (805, 3))
    baseline = random.integers(300, 3000, 805)
    z = -2 * np.tanh((baseline[:, None] - length) / 900) + d[:, None] + random.normal(-1.5, 1, (805, 3))
    labels = expit(-1.5 * tanh + 0.4 * np.tile(d, 2))
    return {
        "models": np.array(["a", "b", "c"]), "preference": expit(z), "output_length": length,
        "baseline_length": baseline, "instruction_difficulty": d, "gamed_tanh_length": tanh,
        "gamed_s1": labels @ tanh, "gamed_s2": labels @ np.tile(d, 2),
    }  # fmt: skip


def imputed(tanh: np.ndarray, d: np.ndarray, s1: float, s2: float) -> np.ndarray:
    """Labels of the gamed rows from a logistic model of their two features whose sums are those given."""

    def miss(w: np.ndarray) -> list[float]:
        y = expit(w[0] * tanh + w[1] * d)
        return [float(y @ tanh - s1), float(y @ d - s2)]

    solution = root(miss, [-1.0, 0.5])
    assert solution.success, solution.message
    return expit(solution.x[0] * tanh + solution.x[1] * d)


def peer(features: np.ndarray, labels: np.ndarray, weights: np.ndarray, C: float | None = None) -> np.ndarray:
    """The coefficients of what alpaca_eval fits; with C of one fit without cross-validation."""
    import sklearn
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.metrics import make_scorer
    from sklearn.model_selection import GroupKFold

    sklearn.set_config(enable_metadata_routing=True)
    twice = np.concatenate([features, features])
    truth, share = np.concatenate([labels, 1 - labels]), np.concatenate([weights, weights])
    kinds = np.repeat([1, 0], len(labels))
    settings: dict[str, Any] = {"penalty": "l1", "solver": "liblinear", "fit_intercept": False, "random_state": 123}
    if C is not None:
        model = LogisticRegression(C=C, **settings).set_fit_request(sample_weight=True)
        return model.fit(twice, kinds, sample_weight=truth * share).coef_[0]

    def loss(y: np.ndarray, p: np.ndarray, truth: np.ndarray, share: np.ndarray) -> float:
        soft, p = np.where(y == 1, truth, 1 - truth), np.clip(p, 1e-15, 1 - 1e-15)
        return -float(np.mean((soft * np.log(p) + (1 - soft) * np.log(1 - p)) * share))

    scorer = make_scorer(loss, response_method="predict_proba", greater_is_better=False)
    model = LogisticRegressionCV(
        cv=GroupKFold(5), scoring=scorer.set_score_request(truth=True, share=True), **settings
    ).set_fit_request(sample_weight=True)
    groups = np.tile(np.arange(len(labels)), 2)
    model.fit(twice, kinds, sample_weight=truth * share, groups=groups, truth=truth, share=share)
    return model.coef_[0]


TRUE = (-1.2, 0.9, -0.8)  # of length, difficulty and model
COVERED = (0.93, 0.97)  # expected of a 95% interval at 200 prompts and more
BOOTSTRAPPED, DRAWS = 400, 200  # repetitions, of which each is drawn so often


def drawn(random: np.random.Generator, n: int, binary: bool, difficulties: bool, w: Any = TRUE) -> dict[str, Any]:
    """The columns of n prompts whose judgements follow the model: wins and losses, or probabilities with that mean."""
    d, apart = random.normal(0, 1.48, n), random.normal(-300, 900, n)
    p = expit(w[0] * np.tanh(apart / 900) + (w[1] * d if difficulties else 0) + w[2])
    y = (random.uniform(size=n) < p).astype(float) if binary else random.beta(1.5 * p + 1e-6, 1.5 * (1 - p) + 1e-6)
    own = {"preference": y, "output_length": 3000 - apart, "baseline_length": np.full(n, 3000.0)}
    return {**own, "difficulty": d} if difficulties else own


def coverage(
    n: int, binary: bool, difficulties: bool, gamed: bool, repetitions: int, w: Any = TRUE
) -> dict[str, float]:
    """How often the true rate is within 1.96 standard errors, by ours, by AlpacaEval's figure and by the bootstrap."""
    everyone = np.random.default_rng(12345).normal(0, 1.48, 1_000_000)
    truth = 100 * float(expit(w[2] + (w[1] * everyone if difficulties else np.zeros(1))).mean())
    random = np.random.default_rng([n, binary, difficulties, gamed])
    rows: dict[str, Any] | None = None
    if gamed:  # of the same model, and the same in each repetition
        d, tanh = random.normal(0, 1.48, 2 * n), np.tanh(random.normal(size=2 * n))
        rows = {"gamed_tanh_length": tanh, "gamed_difficulty": d, "gamed_preference": expit(w[0] * tanh + w[1] * d)}
    within = {"ours": 0.0, "AlpacaEval's": 0.0, "bootstrap": 0.0}
    for k in range(repetitions):
        own = drawn(random, n, binary, difficulties, w)
        found = length_controlled_win_rate(**own, gamed=rows)
        errors = {"ours": found.standard_error, "AlpacaEval's": found.alpaca_eval_standard_error}
        if k < BOOTSTRAPPED and n == 200 and difficulties and not gamed:  # minutes
            again = [random.integers(0, n, n) for _ in range(DRAWS)]
            values = [
                length_controlled_win_rate(**{name: own[name][pick] for name in own}, gamed=rows).value
                for pick in again
            ]
            within["bootstrap"] += (abs(found.value - truth) <= 1.96 * np.std(values, ddof=1)) / min(
                BOOTSTRAPPED, repetitions
            )
        for name, error in errors.items():
            within[name] += (abs(found.value - truth) <= 1.96 * error) / repetitions
    return within


def measure_coverage(repetitions: int) -> None:
    wrong = 0
    for n in (50, 200, 805):
        for binary in (True, False):
            for difficulties, gamed in ((False, False), (True, False), (True, True)):
                found = coverage(n, binary, difficulties, gamed, repetitions)
                told = ", ".join(f"{name} {share:.1%}" for name, share in found.items() if share or name != "bootstrap")
                kind = (
                    ("wins" if binary else "probabilities") + ", difficulties" * difficulties + ", gamed rows" * gamed
                )
                print(f"{n} prompts, {kind}: {told}", flush=True)
                wrong += n >= 200 and not COVERED[0] <= found["ours"] <= COVERED[1]
    print(f"expected of ours at 200 prompts and more: {COVERED[0]:.0%} to {COVERED[1]:.0%}")
    if wrong:
        raise SystemExit(f"{wrong} of these are outside")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=3, help="how many to fit (default: 3)")
    parser.add_argument("--coverage", type=int, metavar="TIMES", help="draw so often, and time nothing")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn renames its settings
    if given.coverage:
        measure_coverage(given.coverage)
        return
    data = extract()
    d, baseline = data["instruction_difficulty"], data["baseline_length"].astype(float)
    tanh, d2 = data["gamed_tanh_length"], np.tile(data["instruction_difficulty"], 2)
    labels = imputed(tanh, d2, float(data["gamed_s1"]), float(data["gamed_s2"]))
    gamed = {"gamed_tanh_length": tanh, "gamed_preference": labels}
    slowest = {FIXED: np.inf, CV: np.inf}
    for k in range(min(given.models, len(data["models"]))):
        y, length = data["preference"][:, k], data["output_length"][:, k].astype(float)
        apart = baseline - length
        ours_design = np.stack([np.tanh(apart / apart.std(ddof=1)), d, np.ones(len(y))], 1)
        features = np.concatenate([np.stack([tanh, d2, np.zeros(len(d2))], 1), ours_design])
        shares = np.repeat([GAMED, 1.0], [len(d2), len(y)])
        truth = np.concatenate([labels, y])
        weights: dict[str, np.ndarray] = {}

        def store(name: str, w: Any, weights: dict[str, np.ndarray] = weights) -> None:
            weights[name] = np.array(w)

        def ours(how: Any, y: Any = y, length: Any = length) -> Any:
            return length_controlled_win_rate(y, length, baseline, d, gamed, how).weights

        calls = {
            "tool": lambda f=features, t=truth, s=shares: store("tool", peer(f, t, s)),
            "tool, one C": lambda f=features, t=truth, s=shares: store("tool, one C", peer(f, t, s, 1 / 0.15)),
            FIXED: lambda fit=ours: store(FIXED, fit(0.15)),
            CV: lambda fit=ours: store(CV, fit("cross-validation")),
        }
        seconds = in_turns(calls, {name: cpu(call) for name, call in calls.items()}, rounds=3)
        rate = {name: 100 * float(expit(w[2] + w[1] * d).mean()) for name, w in weights.items()}
        print(
            f"{data['models'][k]}: "
            + ", ".join(f"{name} {text(s)} (LC {rate[name]:.3f})" for name, s in seconds.items())
        )
        for name in slowest:
            slowest[name] = min(slowest[name], seconds["tool"] / seconds[name])
        if abs(rate["tool"] - rate[CV]) > 0.02 or abs(rate["tool, one C"] - rate[FIXED]) > 0.02:
            raise SystemExit("the two differ by more than 0.02 points: they do not fit the same thing")
    print(
        f"against the public tool's fit, scikit-learn's LogisticRegressionCV: ours at a fixed C is at least "
        f"{slowest[FIXED]:.0f} times faster (expected: at least {LEAST[FIXED]}), ours with cross-validation at least "
        f"{slowest[CV]:.1f} times (expected: at least {LEAST[CV]})"
    )
    if any(slowest[name] < least for name, least in LEAST.items()):
        raise SystemExit("slower than expected")


if __name__ == "__main__":
    main()
