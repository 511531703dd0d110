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

DATA = Path(os.environ.get("NASHWARD_DATA", Path(__file__).parents[2] / "shared" / "data")) / "alpacaeval"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=3, help="how many to fit (default: 3)")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn renames its settings
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
