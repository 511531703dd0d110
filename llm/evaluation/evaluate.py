"""A run evaluated from its folder: a tournament of its policies, lengths, what was given up for the oracle."""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nashward.errors import NashwardError

from ..data.prompts import Prompt
from ..data.rollouts import Response
from ..oracles import as_oracle
from ..oracles.models.network import NetworkOracle
from ..policy.loading import check_policy
from ..policy.lora import LoraShape
from ..policy.mixture import Mixture
from ..policy.model import LanguageModel
from ..run.selfplay import SelfPlay, metrics
from ..store.files import write_json
from ..store.run_folder import RunFolder
from .over_optimisation import DEFAULT, Thresholds, verdicts
from .players import FOLDER, START, policies, told
from .players import answers as drawn_of
from .refusals import PROBES, refuses
from .tables import Played, play
from .win_rates.length_control import NotComparable, length_controlled_win_rate

PROBED = 4  # responses to each request of the refusal probe
TRAINING = "training"


def evaluate(
    run: SelfPlay,
    prompts: Sequence[Prompt],
    held_out: Mapping[str, Any] | None = None,
    others: Mapping[str, Mixture] | None = None,
    thresholds: Thresholds = DEFAULT,
    seed: int = 0,
    progress: Callable[[str], object] = lambda what: None,
    answers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate what a run has finished; writes ``evaluation.json`` into its folder.

    The start, the finished iterates, the mixture and ``others`` answer each prompt once, and of ``answers`` the first
    response to each is taken. Under the run's oracle and each held-out one they play each other (``Played.described``),
    and against the start they get a win rate and a minimal length-controlled one, in percent. ``over_optimisation``
    holds the verdicts on each iterate and the mixture; of the models of ``answers``, which were not trained under the
    run's oracle, the measures with no verdict. ``kl`` has the nats a response from the start that the run measured,
    with the standard error. What was drawn and judged is kept in the folder: the same command goes on where it was
    stopped.

    Args:
        run: with its folder, policy, oracle and sampler.
        prompts: at least one; those of the run or others.
        held_out: oracles by name that the run was not trained on, each whatever ``oracles.as_oracle`` takes; they are
            loaded one after another, when the responses are there.
        others: further policies on the same base, by name; of any rank.
        seed: of sampling and of the bootstrap.
        progress: is told what comes next.
        answers: responses of any other models, by their names, each a file, a dataset id or rows as the opponents of a
            run are (``StoredOpponents``). They are found by the prompt.

    Returns:
        what was written.

    Raises:
        ValueError: no policy yet, a name that is there twice, a damaged adapter, a policy of ``others`` that is for
            another base or no plain LoRA, a model of ``answers`` that lacks one of the prompts, another process plays
            in the folder.
    """
    home, held_out, others, answers = RunFolder(run.folder), held_out or {}, others or {}, answers or {}
    if TRAINING in held_out:
        raise NashwardError(f"a held-out oracle may not be called {TRAINING}: that is the run's own")
    with home.lock():
        players = policies(home)
        if len(players) < 2:
            raise NashwardError(f"{home.path} has finished no iterate yet: there is nothing to hold against its start")
        if twice := [name for name, times in Counter([*players, *others, *answers]).items() if times > 1]:
            raise NashwardError(f"two players would be called {twice[0]}; call one of them something else")
        given = told(home, answers, _tokenizer(run), prompts, run.config.column) if answers else {}
        run = _with_room(run, players, others)
        players |= others

        def draw(asked: Sequence[Prompt], count: int, own: Mapping[str, Mixture]) -> dict[str, list[list[Response]]]:
            return drawn_of(
                home,
                own,
                lambda: run.model,
                asked,
                count,
                run.sampling,
                seed,
                progress,
            )

        drawn = {name: [row[0] for row in own] for name, own in draw(prompts, 1, players).items()} | given
        probes = [Prompt(({"role": "user", "content": text},)) for text in PROBES]
        refused = {
            name: [sum(refuses(one.text) for one in row) / PROBED for row in own]
            for name, own in draw(probes, PROBED, players).items()
        }
        if "model" in vars(run):  # it was loaded: policy and oracle are on the device by turns
            run.model.offload()
        questions = [prompt.text for prompt in prompts]
        texts = {name: [one.text for one in own] for name, own in drawn.items()}
        tables: dict[str, Played] = {}
        names: dict[str, str] = {}
        for name in (TRAINING, *held_out):
            progress(f"judging: {name}")
            judge = run.judge if name == TRAINING else as_oracle(held_out[name])
            cache = home / FOLDER / "judgements.sqlite" if judge.cache_key() is not None else None
            tables[name], names[name] = play(judge, questions, texts, cache), judge.name
            if isinstance(judge, NetworkOracle):
                judge.offload()
        found = {
            "prompts": len(prompts),
            "seed": seed,
            "oracles": names,
            "games": {name: played.described(seed=seed) for name, played in tables.items()},
            "against_start": {
                name: {player: _against(played, drawn, player) for player in drawn if player != START}
                for name, played in tables.items()
            },
            "characters": {name: _mean([len(text) for text in own]) for name, own in texts.items()},
            "tokens": {name: _mean([len(one.ids) for one in own]) for name, own in drawn.items()},
            "refusals": {name: _mean(own) for name, own in refused.items()},
            "kl": {row["iteration"]: _kl(row["after"]) for row in metrics(home.path)},
            "thresholds": dataclasses.asdict(thresholds),
            "over_optimisation": {
                player: [
                    {**dataclasses.asdict(verdict), **({"called_out": None} if player in given else {})}
                    for verdict in verdicts(
                        [one.ids for one in drawn[player]],
                        [one.ids for one in drawn[START]],
                        _column(tables[TRAINING], player),
                        {name: _column(tables[name], player) for name in held_out},
                        (refused[player], refused[START]) if player in refused else None,
                        thresholds,
                    )
                ]
                for player in drawn
                if player != START
            },
        }
        write_json(home / "evaluation.json", found)
    return found


def _tokenizer(run: SelfPlay) -> Any:
    if isinstance(run.policy, LanguageModel):
        return run.policy.tokenizer
    return check_policy(str(run.policy), run.config.chat_template)


def _with_room(run: SelfPlay, own: Mapping[str, Mixture], others: Mapping[str, Mixture]) -> SelfPlay:
    """The run, where there are other adapters loaded in a shape that takes all; those that cannot play are refused."""
    if not others:
        return run
    base = run.policy.name if isinstance(run.policy, LanguageModel) else str(run.policy)
    for player in others.values():
        player.check(base)
        for folder, _ in player.members:
            try:
                LoraShape.of(folder).plain()
            except ValueError as error:
                raise NashwardError(f"{folder} cannot play: {error}") from None
    largest = max(
        (player.largest for player in [*own.values(), *others.values()]), key=lambda one: LoraShape.of(one).rank
    )
    rank = LoraShape.of(largest).rank
    if not isinstance(run.policy, LanguageModel):
        lora = dataclasses.replace(run.config.lora, rank=rank)
        return dataclasses.replace(run, adapter=None, config=dataclasses.replace(run.config, lora=lora))
    if (room := run.policy.shape.rank) < rank:
        raise NashwardError(f"{largest} has rank {rank}, the model was loaded for {room}; give its folder in its place")
    return run


def _column(played: Played, player: str) -> Any:
    """[N], P(the player's response beats the start's)."""
    return played.tables[:, played.players.index(player), played.players.index(START)]


def _against(played: Played, drawn: Mapping[str, Sequence[Response]], player: str) -> dict[str, Any]:
    """A player's win rate against the start, and at equal lengths; in percent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotComparable)  # it is named minimal wherever it is shown
        rate = played.rate(player, START)
        if rate.prompts < 2:
            return {"win_rate": 100 * rate.value, "standard_error": None, "minimal": None}
        controlled = length_controlled_win_rate(
            _column(played, player),
            [len(one.text) for one in drawn[player]],
            [len(one.text) for one in drawn[START]],
        )
    return {
        "win_rate": controlled.win_rate,
        "standard_error": controlled.win_rate_error,
        "discrete_win_rate": controlled.discrete_win_rate,
        "minimal": controlled.value,
    }


def _kl(after: Mapping[str, float]) -> dict[str, float | None]:
    """KL from the start; a run that an earlier version made has no error of it."""
    return {"value": after["kl_to_reference"], "standard_error": after.get("kl_to_reference_error")}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
