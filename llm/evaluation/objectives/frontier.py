"""What a win rate under one objective costs under another: a point for each policy of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from nashward.errors import NashwardError
from nashward.games.shapes import Float

from ...data.prompts import Prompt
from ...oracles import PreferenceOracle, as_oracle, preference_matrices
from ...oracles.ensembles.objectives import Objectives
from ...oracles.models.network import networks
from ...policy.adapters.lora import interpolate
from ...policy.mixture import Mixture
from ...processes import processes
from ...run.selfplay import SelfPlay
from ...store.files import write_json
from ...store.run_folder import JUDGEMENTS, RunFolder
from ..players import FOLDER, MIXTURE, START, TRAINING, compared_policies, identity, sample_responses, with_room
from ..sft_likelihood import sft_likelihoods
from ..win_rates.win_rate import WinRate, judged_means
from .pareto import ParetoPoint, pareto_front

FILE = "frontier.json"
SFT = "sft"  # the name of the SFT texts' likelihood among the objectives
SHARES = (0.25, 0.5, 0.75)  # of the last iterate in the interpolations


def frontier(
    run: SelfPlay,
    prompts: Sequence[Prompt],
    objectives: Mapping[str, Any] | None = None,
    responses: int = 4,
    seed: int = 0,
    progress: Callable[[str], object] = lambda message: None,
) -> dict[str, Any]:
    """The win rates of a run's policies over its start under several objectives, and ``frontier.json`` in its folder.

    The policies are the start, the iterates, the mixture, and interpolations from the start to the last iterate, whose
    adapters are averaged. Each gives ``responses`` responses per prompt; an objective judges them against the start's.

    Args:
        run: a run with its folder, policy, oracle and sampler.
        prompts: at least two; those of the run or others.
        objectives: further ones by name, each an oracle as ``oracles.as_oracle`` takes it. The run's own are those of
            its ``--objective``, or "training" of a run with one oracle.
        responses: of each policy to a prompt.
        seed: of sampling.
        progress: called with a message before each stage.

    Returns:
        What the file holds: for each policy and objective the win rate and its standard error over prompts; where the
        run has SFT texts, the mean log-likelihood of the held-out ones, nats per token, as ``sft``, see
        ``sft_likelihoods``; and for each two of these which policies no other one dominates.

    Raises:
        ValueError: fewer than two prompts or responses, fewer than two objectives (SFT texts count as one), a name that
            is taken, no finished iterate, or another process uses the folder.
    """
    home, objectives = RunFolder(run.folder), objectives or {}
    if len(prompts) < 2 or responses < 1:
        raise NashwardError(f"a frontier needs 2 prompts and a response each, got {len(prompts)} and {responses}")
    names = [*((TRAINING,) if run.combination is None else run.combination.names), *objectives]
    if twice := [name for name in names if names.count(name) > 1 or name == SFT]:
        raise NashwardError(f"there is an objective {twice[0]} already; call it something else")
    if len(names) + run.has_sft < 2:
        raise NashwardError(
            "a frontier is of two objectives, and the run has one oracle and no SFT texts: give --objective NAME=ORACLE"
        )
    with home.lock():
        players = compared_policies(home)
        blends = _interpolations(home, players)
        run = with_room(run, players, blends)
        _ = run.planned
        players = {**players, **blends}
        drawn = sample_responses(home, players, lambda: run.model, prompts, responses, run.sampling, seed, progress)
        if run.has_sft:
            progress("the likelihood of the held-out SFT texts")
        likelihoods = sft_likelihoods(run, players)
        if "model" in vars(run):
            run.model.offload()
        texts = {name: [[response.text for response in row] for row in rows] for name, rows in drawn.items()}
        rates: dict[str, dict[str, Any]] = {name: {} for name in players}
        for objective, oracle in _oracles(run, objectives):
            progress(f"judging: {objective}")
            for name, each in _win_rates(oracle, [prompt.text for prompt in prompts], texts, home).items():
                rate = WinRate(0.5, 0.0, len(each)) if name == START else WinRate.of(each)  # against itself
                rates[name][objective] = {"value": rate.value, "standard_error": rate.standard_error}
            for network in networks(oracle):
                network.offload()
        for name, likelihood in likelihoods.items():
            rates[name][SFT] = likelihood
        found = {
            "prompts": len(prompts), "responses": responses, "seed": seed, "objectives": names, "policies": rates,
            "identities": {name: identity(player) for name, player in players.items() if name not in blends},
            "fronts": _fronts([*names, *([SFT] if run.has_sft else [])], rates),
        }  # fmt: skip
        processes.decided(lambda: write_json(home / FILE, found))
    return found


def _oracles(run: SelfPlay, objectives: Mapping[str, Any]) -> list[tuple[str, PreferenceOracle]]:
    own = run.judge
    named = (
        [*zip(own.combination.names, own.members, strict=True)] if isinstance(own, Objectives) else [(TRAINING, own)]
    )
    return [*named, *((name, as_oracle(source)) for name, source in objectives.items())]


def _win_rates(
    oracle: PreferenceOracle, prompts: Sequence[str], texts: Mapping[str, list[list[str]]], home: RunFolder
) -> dict[str, Float[np.ndarray, " prompts"]]:
    """How often each policy's responses beat the start's on each prompt that was judged."""
    cache = home / FOLDER / JUDGEMENTS if oracle.cache_key() is not None else None
    found = {}
    for name, own in texts.items():
        if name == START:
            found[name] = np.full(len(prompts), 0.5)
            continue
        found[name] = judged_means(preference_matrices(oracle, prompts, own, texts[START], cache=cache))
        if len(found[name]) < 2:
            raise NashwardError(f"{oracle.name} judged {name} on fewer than two prompts: there is no standard error")
    return found


def _interpolations(home: RunFolder, players: Mapping[str, Mixture]) -> dict[str, Mixture]:
    """The adapters on the line from the start to the last iterate."""
    last = [name for name in players if name != MIXTURE][-1]
    ((start, _),), ((end, _),) = players[START].members, players[last].members
    found = {}
    for share in SHARES:
        blend = Mixture(((start, 1 - share), (end, share)))  # another one once a step was made again
        folder = home / FOLDER / "interpolations" / f"{last}-{share:g}-{identity(blend)}"
        if not processes.decided(folder.exists):
            processes.decided(lambda share=share, folder=folder: _write(start, end, share, folder))  # type: ignore[misc]
        found[f"{share:g} of {last}"] = Mixture(((folder, 1.0),))
    return found


def _write(start: Path, end: Path, share: float, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    interpolate([(start, 1 - share), (end, share)], folder)


def points(found: Mapping[str, Any], first: str, second: str) -> list[ParetoPoint]:
    """The policies by what they win under one objective and under another, or by the SFT texts' likelihood.

    Example:
        >>> rates = {"start": {"a": {"value": 0.5, "standard_error": 0.0}, "b": {"value": 0.5, "standard_error": 0.0}}}
        >>> points({"policies": rates}, "a", "b")
        [ParetoPoint(name='start', wins=0.5, score=0.5, error=0.0, wins_error=0.0)]
    """
    return [
        ParetoPoint(
            name, rates[first]["value"], rates[second]["value"], rates[second]["standard_error"] or 0.0,
            rates[first]["standard_error"] or 0.0,
        )
        for name, rates in found["policies"].items()
        if first in rates and second in rates
    ]  # fmt: skip


def _fronts(names: Sequence[str], rates: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each two objectives, as "first, second", the policies that no other one dominates."""
    return {
        f"{a}, {b}": [point.name for point in pareto_front(points({"policies": rates}, a, b))]
        for a, b in combinations(names, 2)
    }


def figure(found: Mapping[str, Any]) -> Any:
    """A picture of each two objectives, with standard errors and what is dominated in grey.

    Args:
        found: what ``frontier`` returns.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    from . import pareto

    pairs = [pair.split(", ") for pair in found["fronts"]]
    page = Figure(figsize=(5.6 * len(pairs), 4.4), layout="constrained")
    for axes, (a, b) in zip(np.atleast_1d(page.subplots(1, len(pairs))), pairs, strict=True):
        pareto.figure(points(found, a, b), b, axes)
        axes.set_xlabel(f"win rate over the start, {a}")
        axes.set_ylabel("SFT texts, log-likelihood per token" if b == SFT else f"win rate over the start, {b}")
    pareto.spread_labels(page)
    return page
