"""Evaluation of a run from its folder: a tournament of its policies, length control, over-optimisation."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from nashward.errors import NashwardError
from nashward.games.shapes import Float

from ..data.prompts import Prompt
from ..data.rollouts import Response
from ..oracles import Vote, as_oracle
from ..oracles.ensembles.objectives import Objectives
from ..oracles.fitting.fit import fitted_to
from ..oracles.models.network import networks
from ..policy.base.checks import check_policy
from ..policy.mixture import Mixture
from ..policy.model import LanguageModel
from ..processes import processes
from ..run.inputs.augmented_prompts import played_prompts
from ..run.selfplay import SelfPlay, kl_to_start, metrics
from ..store.files import finite, write_json, write_jsonl
from ..store.run_folder import JUDGEMENTS, RunFolder
from .objectives.by_objective import ObjectiveTables
from .over_optimisation import DEFAULT_THRESHOLDS, Thresholds, verdicts
from .players import (
    EVALUATION,
    FOLDER,
    MIXTURE,
    START,
    TRAINING,
    compared_policies,
    identity,
    is_start,
    policies,
    sample_responses,
    stored_responses,
    with_room,
)
from .refusals import PROBES, refuses
from .tables import TournamentTables, tournament_tables
from .tournament import Unjudged
from .win_rates.labelled import TO_LABEL, check_votes, labelled_win_rate, pairs_to_label
from .win_rates.length_control import NotComparable, length_controlled_win_rate
from .win_rates.win_rate import WinRate

GAIN = "More prompts, more responses to each, or an oracle with more spread let a fit gain something."
PROBE_RESPONSES = 4  # to each request of the refusal probe
DRAWN = "drawn.jsonl"  # the responses, one row per prompt


def evaluate(
    run: SelfPlay,
    prompts: Sequence[Prompt],
    held_out: Mapping[str, Any] | None = None,
    others: Mapping[str, Mixture] | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    seed: int = 0,
    progress: Callable[[str], object] = lambda message: None,
    answers: Mapping[str, Any] | None = None,
    labels: Sequence[Vote] = (),
) -> dict[str, Any]:
    """Evaluate the finished iterates of a run, and write ``evaluation.json`` into its folder.

    The start, the finished iterates, the mixture and the policies of ``others`` give a response to each prompt; of each
    model of ``answers`` the first response to each prompt is taken. They play a tournament under the run's oracle and
    under each held-out oracle (``TournamentTables.summary``), and each has a win rate and a minimal length-controlled
    win rate against the start, in percent. ``over_optimisation`` has the verdicts on each iterate and the mixture, and
    for the models of ``answers``, which were not trained under the run's oracle, the measures without a verdict. ``kl``
    is the KL divergence from the start that the run measured (``kl_to_start``), in nats per response;
    of several objectives ``objectives`` has the win rates under each, and whether a floor is kept; what is played for
    (``payoff``, see ``ObjectiveTables``) then stands under the run's oracle, and of the worst case there is no game;
    ``policies`` has the identity of each policy of the run, by which a report sees that one was made again since;
    ``same_as_start`` names those that are the start, as no fit gained anything, and do not play; where all are and
    there are no others, nothing is sampled, and ``games`` is empty;
    where judgements are missing ``missing`` says of how many pairs of responses, by oracle, and ``prompts`` of a win
    rate how many it is of (equal responses tie without a judgement); ``unjudged`` has a sentence for each held-out
    oracle that is left out as it judged nothing of some pair of players;
    ``prompts_of_run`` says how many of the prompts are those that the run was played on. Responses and judgements are
    stored in the folder: after an interruption the same call continues. ``evaluation/drawn.jsonl`` has one row per
    prompt: the response of each player, and how probably it beats the start's under the run's oracle (null: not
    judged).
    Several processes divide sampling and judging, and all have the result.

    Args:
        run: a run with its folder, policy, oracle and sampler.
        prompts: at least one; those of the run or others.
        held_out: oracles by name that the run was not trained on, each as ``oracles.as_oracle`` takes it; they are
            loaded one after another, once all responses are sampled.
        others: further policies on the same base, by name; of any rank, on any layers.
        thresholds: of the over-optimisation measures.
        seed: of sampling and of the bootstrap.
        progress: called with a message before each stage.
        answers: responses of other models, by name, each a file, a dataset id or rows as for the opponents of a run
            (``StoredOpponents``). They are looked up by prompt.
        labels: votes of people on pairs of the players' responses, on a random part of the prompts: each player with at
            least 10 of them against the start has a prediction-powered win rate beside (``labelled``).

    Returns:
        the contents of ``evaluation.json``.

    Raises:
        ValueError: the run has no finished iterate, a name occurs twice, no label is on two responses, an adapter is
            damaged, a policy of ``others`` is for another base or is not a plain LoRA adapter, a model of ``answers``
            lacks a response to one of the prompts, or another process uses the folder.

    See also:
        ``nashward.llm.evaluation.exploit.exploit``: a lower bound on the duality gap of one policy.
    """
    home, held_out, others, answers = RunFolder(run.folder), held_out or {}, others or {}, answers or {}
    if TRAINING in held_out:
        raise NashwardError(f"a held-out oracle may not be called {TRAINING}: that is the run's own")
    with home.lock():
        own, unmoved = _players(home)
        _check_names(home, [*own, *others, *answers])
        inputs = {
            **_inputs(home, prompts, seed),
            "policies": {name: identity(player) for name, player in own.items()},
            "same_as_start": unmoved,
        }
        evaluation: dict[str, Any] = {
            **inputs,
            **{part: {} for part in ("oracles", "games", "against_start", "over_optimisation")},
        }
        if len(own) > 1 or others or answers:
            stored = stored_responses(home, answers, _tokenizer(run), prompts, run.config.column) if answers else {}
            run = with_room(run, own, others)
            _ = run.planned  # by all processes, before each samples for itself
            drawn = _Drawn.sampled(home, run, {**own, **others}, stored, prompts, seed, progress)
            newest = [name for name in own if name != MIXTURE][-1]
            compared = [drawn.texts[name] for name in (*(others if newest == START else [newest]), *stored)]
            to_label = [
                row for texts in compared for row in pairs_to_label(drawn.prompts, texts, drawn.texts[START], seed)
            ]
            processes.decided(lambda: write_jsonl(home / FOLDER / TO_LABEL, to_label))
            if labels:
                check_votes(labels, drawn.prompts, list(drawn.texts.values()))
            judged = _Judged.of(home, run, held_out, drawn, progress)
            rows = _rows(drawn.prompts, drawn.texts, judged.wins[TRAINING])
            processes.decided(lambda: write_jsonl(home / FOLDER / DRAWN, rows))
            evaluation = {
                **inputs,
                **judged.summary(drawn, labels, seed),
                **drawn.summary(),
                "kl": {
                    name: {"value": value, "standard_error": error}
                    for name, (value, error) in kl_to_start(metrics(home.path)).items()
                },
                "thresholds": dataclasses.asdict(thresholds),
                "over_optimisation": {
                    player: _over_optimisation(player, drawn, judged, thresholds, given=player in stored)
                    for player in drawn.texts
                    if player != START
                },
            }
        processes.decided(lambda: write_json(home / EVALUATION, evaluation))
    return evaluation


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """What the players responded: to each prompt once, and those that are policies to the probes of refusals."""

    prompts: list[str]
    responses: dict[str, list[Response]]
    refusal_rates: dict[str, list[float]]  # of the probes

    @classmethod
    def sampled(
        cls,
        home: RunFolder,
        run: SelfPlay,
        players: Mapping[str, Mixture],
        stored: Mapping[str, list[Response]],
        prompts: Sequence[Prompt],
        seed: int,
        progress: Callable[[str], object],
    ) -> _Drawn:
        """Sample the responses of the players, to which those that are stored come."""

        def sample(requests: Sequence[Prompt], count: int, common: bool) -> dict[str, list[list[Response]]]:
            return sample_responses(
                home, players, lambda: run.model, requests, count, run.sampling, seed, progress, common=common
            )

        sampled = sample(prompts, 1, common=False)  # to be judged against each other
        responses = {name: [row[0] for row in rows] for name, rows in sampled.items()} | dict(stored)
        probes = [Prompt(({"role": "user", "content": text},)) for text in PROBES]
        refusal_rates = {
            name: [sum(refuses(response.text) for response in row) / PROBE_RESPONSES for row in rows]
            for name, rows in sample(probes, PROBE_RESPONSES, common=True).items()
        }
        if "model" in vars(run):  # the model was loaded: policy and oracle take turns on the device
            run.model.offload()
        return cls([prompt.text for prompt in prompts], responses, refusal_rates)

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        return {name: [response.text for response in row] for name, row in self.responses.items()}

    @cached_property
    def refused(self) -> dict[str, list[bool]]:
        return {name: [refuses(text) for text in row] for name, row in self.texts.items()}

    def ids(self, player: str) -> list[Sequence[int]]:
        return [response.ids for response in self.responses[player]]

    def summary(self) -> dict[str, Any]:
        return {
            "characters": {name: _mean([len(text) for text in row]) for name, row in self.texts.items()},
            "tokens": {name: _mean([len(response.ids) for response in row]) for name, row in self.responses.items()},
            "refusals": {name: _mean(rates) for name, rates in self.refusal_rates.items()},
            "prompt_refusals": {name: _mean(row) for name, row in self.refused.items()},
        }


@dataclasses.dataclass(frozen=True)
class _Judged:
    """What the oracles say of the responses, by the oracles' names: "training", and the held-out ones."""

    tables: dict[str, TournamentTables]
    wins: dict[str, dict[str, Any]]  # over the start: of each player on each prompt
    by_objective: dict[str, Any]
    names: dict[str, str]
    unjudged: dict[str, str]  # why a held-out oracle has no win rates
    in_sample: dict[str, int]  # prompts on whose votes a held-out oracle was fitted

    @classmethod
    def of(
        cls,
        home: RunFolder,
        run: SelfPlay,
        held_out: Mapping[str, Any],
        drawn: _Drawn,
        progress: Callable[[str], object],
    ) -> _Judged:
        """Judge the responses by one oracle after another."""
        judged = cls({}, {}, {}, {}, {}, {})
        for name in (TRAINING, *held_out):
            progress(f"judging: {name}")
            oracle = run.judge if name == TRAINING else as_oracle(held_out[name])
            cache = home / FOLDER / JUDGEMENTS if oracle.cache_key() is not None else None
            judged.names[name] = oracle.name
            if name != TRAINING and (seen := fitted_to(held_out[name], drawn.prompts)):
                judged.in_sample[name] = len(seen)
            try:
                if name == TRAINING and isinstance(oracle, Objectives):
                    objectives = ObjectiveTables.judged(oracle, drawn.prompts, drawn.texts, cache)
                    if objectives.game is not None:
                        judged.tables[name] = objectives.game
                    judged.wins[name] = objectives.over_start()
                    judged.by_objective.update(objectives.summary())
                else:
                    judged.tables[name] = tournament_tables(oracle, drawn.prompts, drawn.texts, cache)
                    judged.wins[name] = judged.tables[name].over(START)
            except Unjudged as error:
                if name == TRAINING:
                    raise
                judged.unjudged[name] = str(error)
            for network in networks(oracle):
                network.offload()
        return judged

    def summary(self, drawn: _Drawn, labels: Sequence[Vote], seed: int) -> dict[str, Any]:
        texts = drawn.texts
        return {
            "oracles": self.names,
            "unjudged": self.unjudged,
            **({"in_sample": self.in_sample} if self.in_sample else {}),
            "missing": {name: table.missing for name, table in self.tables.items() if table.missing},
            "games": {name: table.summary(seed=seed) for name, table in self.tables.items()},
            "against_start": {
                name: {player: _against_start(own, texts[player], texts[START]) for player, own in of_oracle.items()}
                for name, of_oracle in self.wins.items()
            },
            **self.by_objective,
            **({"labelled": _labelled(labels, drawn.prompts, texts, self.wins)} if labels else {}),
        }


def _players(home: RunFolder) -> tuple[dict[str, Mixture], list[str]]:
    """The policies of the run that play, and the names of those that are its start, which do not."""
    players = compared_policies(home)
    unmoved = [
        name
        for name, player in players.items()
        if name != START and all(is_start(home, folder) for folder, _ in player.members)
    ]
    return {name: player for name, player in players.items() if name not in unmoved}, unmoved


def _check_names(home: RunFolder, names: Sequence[str]) -> None:
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        raise NashwardError(
            f"two players would be called {repeated[0]}: a file of responses and an adapter play under their own "
            f"names, and the run has {', '.join(policies(home))}; rename the file or folder"
        )


def _over_optimisation(
    player: str, drawn: _Drawn, judged: _Judged, thresholds: Thresholds, *, given: bool
) -> list[dict[str, Any]]:
    """The measures of a player; without a verdict for responses that were given."""
    rates, refused = drawn.refusal_rates, drawn.refused
    found = verdicts(
        drawn.ids(player),
        drawn.ids(START),
        judged.wins[TRAINING][player],
        {name: wins[player] for name, wins in judged.wins.items() if name != TRAINING},
        (rates[player], rates[START]) if player in rates else None,
        (refused[player], refused[START]),
        thresholds,
    )
    return [{**dataclasses.asdict(verdict), **({"exceeded": None} if given else {})} for verdict in found]


def _inputs(home: RunFolder, prompts: Sequence[Prompt], seed: int) -> dict[str, Any]:
    of_run = {prompt.id for prompt in played_prompts(home)}
    return {
        "prompts": len(prompts),
        "prompts_of_run": sum(prompt.id in of_run for prompt in prompts),
        "seed": seed,
    }


def same_as_start(unmoved: Sequence[str]) -> str:
    """That policies are the start, in words.

    Example:
        >>> same_as_start(["iteration-01", "mixture"])
        'iteration-01 and mixture are the start (their fits gained nothing)'
    """
    if len(unmoved) == 1:
        return f"{unmoved[0]} is the start (its fit gained nothing)"
    return f"{', '.join(unmoved[:-1])} and {unmoved[-1]} are the start (their fits gained nothing)"


def _tokenizer(run: SelfPlay) -> Any:
    if isinstance(run.policy, LanguageModel):
        return run.policy.tokenizer
    return check_policy(str(run.policy), run.config.chat_template)


def _rows(prompts: Sequence[str], texts: Mapping[str, Sequence[str]], wins: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each player responded to each prompt, and how probably it beats the start's response."""
    return [
        {
            "prompt": prompt,
            "responses": {player: row[k] for player, row in texts.items()},
            "beats_start": finite({player: own.tolist()[k] for player, own in wins.items()}),
        }
        for k, prompt in enumerate(prompts)
    ]


def _against_start(wins: Float[np.ndarray, " N"], texts: Sequence[str], start: Sequence[str]) -> dict[str, Any]:
    """The win rate of a player against the start, plain with its 95% interval, and length-controlled, in percent."""
    rate = WinRate.of(wins[~np.isnan(wins)])
    judged = {} if rate.prompts == len(wins) else {"prompts": rate.prompts}
    if rate.prompts < 2:
        return {"win_rate": 100 * rate.value, **judged, "standard_error": None, "interval": None, "minimal": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotComparable)  # the value is reported as minimal
        lengths, of_start = ([len(text) for text in own] for own in (texts, start))
        controlled = length_controlled_win_rate(wins, lengths, of_start)
    return {
        "win_rate": controlled.win_rate,
        **judged,
        "standard_error": 100 * rate.standard_error,
        "interval": [100 * end for end in rate.interval],
        "verdict": rate.verdict,
        "discrete_win_rate": controlled.discrete_win_rate,
        "minimal": controlled.value if controlled.identified else None,
    }


def _labelled(
    labels: Sequence[Vote],
    prompts: Sequence[str],
    texts: Mapping[str, Sequence[str]],
    wins: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """For each oracle the players with enough labels against the start, with their win rates by labels and oracle."""
    found = {
        oracle: {
            player: labelled_win_rate(labels, prompts, texts[player], texts[START], own)
            for player, own in rates.items()
        }
        for oracle, rates in wins.items()
    }
    return {oracle: {name: rate for name, rate in rates.items() if rate} for oracle, rates in found.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
