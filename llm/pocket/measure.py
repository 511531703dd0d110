"""Measure the pocket models on prompts that they were not trained on.

python -m nashward.llm.pocket.measure    # the shipped ones; policy/ and pairrm/ of a folder with --of FOLDER
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nashward.games import PreferenceGame, nash
from nashward.games.analysis.ratings import bradley_terry

from ..oracles.matrices import preference_matrices
from ..oracles.models.pairrm import PairRM
from . import PAIRRM, POLICY
from .make import mixed_response, sample
from .styles import BASE_MIX, PLANTED, STYLES, by_style, held_out_prompts, judged_table


def check(
    policy: Path = POLICY, pairrm: Path = PAIRRM, prompts: Sequence[str] | None = None, seed: int = 0, tables: int = 150
) -> dict:
    """Measure both models on prompts that they were not trained on (default: 500 from `held_out_prompts`).

    Returns:
        style_mix `[4]` and no_style, shares of one sample a prompt; tokens, the longest of them; learned `[5, 5]`, the
        mean win probabilities between the styles and no style over the first `tables` prompts; error, its largest
        distance from `PLANTED`; nash_planted and nash_learned `[4]`; bradley_terry_misfit of the learned table.
    """
    prompts = held_out_prompts(500) if prompts is None else list(prompts)
    rng = np.random.default_rng([seed, 3])
    texts, counts = sample(policy, prompts, seed)
    pool = by_style(texts)
    candidates = [[mixed_response(kind, None, pool, rng) for kind in range(5)] for _ in prompts[:tables]]
    results = preference_matrices(PairRM.from_pretrained(pairrm, device="cpu"), prompts[:tables], candidates)
    learned = np.mean([result.P for result in results], axis=0)
    return {
        "style_mix": np.array([len(responses) for responses in pool[:4]]) / len(prompts),
        "no_style": len(pool[4]) / len(prompts),
        "tokens": int(counts.max()),
        "learned": learned,
        "error": float(np.abs(learned[:4, :4] - PLANTED).max()),
        "nash_planted": np.asarray(nash(PreferenceGame(PLANTED)).policy),
        "nash_learned": np.asarray(nash(PreferenceGame(learned[:4, :4])).policy),
        "bradley_terry_misfit": float(bradley_terry(learned[:4, :4]).residual.abs().max()),
        "order_gap": float(np.mean([result.meta["order_gap"] for result in results])),
    }


def report(measures: dict) -> str:
    """The measures of `check` as text."""

    def line(name: str, values: Sequence[float] | np.ndarray) -> str:
        return f"{name:<12}" + "".join(f"{value:9.3f}" for value in values)

    head = " " * 12 + "".join(f"{name:>9}" for name in (*STYLES, "no style"))
    return "\n".join(
        [
            "planted P(row beats column)", head, *map(line, (*STYLES, "no style"), judged_table()),
            "learned, mean over held-out prompts", head, *map(line, (*STYLES, "no style"), measures["learned"]),
            f"largest error between styles {measures['error']:.3f}; "
            f"mean order gap of a logit {measures['order_gap']:.3f}; "
            f"the best Bradley-Terry fit misses by {measures['bradley_terry_misfit']:.3f}",
            head, line("Nash planted", measures["nash_planted"]), line("Nash learned", measures["nash_learned"]),
            line("mix planted", BASE_MIX), line("mix sampled", [*measures["style_mix"], measures["no_style"]]),
            f"longest response: {measures['tokens']} tokens",
        ]
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m nashward.llm.pocket.measure", description=__doc__.split("\n")[0])
    parser.add_argument("--of", type=Path, default=POLICY.parent, help="the folder of policy/ and pairrm/")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    print(report(check(options.of / "policy", options.of / "pairrm", seed=options.seed)))


if __name__ == "__main__":
    main()
