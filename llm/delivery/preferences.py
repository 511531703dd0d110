"""The judged responses of a run as preference data, in TRL's formats and whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from nashward.errors import NashwardError

from ..data.prompts import Prompt
from ..evaluation.objectives.last_weights import last_weights, table_of
from ..run.inputs.augmented_prompts import played_prompts
from ..run.inputs.opponents import StoredOpponents
from ..store.files import atomic_folder, shards, write_jsonl
from ..store.run_folder import RunFolder
from ..store.step_shards import by_prompt, shard_names, texts_by_prompt
from ..training.regression import win_rates

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMAS = {
    "explicit-prompt": pa.schema([("prompt", MESSAGES), ("chosen", MESSAGES), ("rejected", MESSAGES)]),
    "implicit-prompt": pa.schema([("chosen", MESSAGES), ("rejected", MESSAGES)]),
    "unpaired": pa.schema([("prompt", MESSAGES), ("completion", MESSAGES), ("label", pa.bool_())]),
    "responses": pa.schema(
        [
            ("prompt", MESSAGES), ("step", pa.string()), ("policy", pa.string()), ("opponent", pa.string()),
            ("responses", pa.list_(pa.string())), ("opponent_responses", pa.list_(pa.string())),
            ("P", pa.list_(pa.list_(pa.float64()))),
        ]
    ),
}  # fmt: skip


@dataclass
class Preferences:
    """Rows of each format, by its name in ``SCHEMAS``.

    Attributes:
        rows: of each format.
        left_out: how many tables and responses without a preference the formats of pairs and labels lack, by reason.
        weights: of the objectives in the tables, where the run plays against its start, see ``last_weights``.
    """

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {name: [] for name in SCHEMAS})
    left_out: Counter[str] = field(default_factory=Counter)
    weights: Mapping[str, float] | None = None

    def add(self, prompt: Prompt, step: str, policy: str, texts: Sequence[str], P: np.ndarray) -> None:
        """Add the responses of one policy to a prompt, compared with each other.

        The pair is the response with the largest and the one with the smallest mean win probability against the others;
        a response is labelled by whether that is above 1/2.

        Args:
            prompt: with its messages.
            step, policy: the names of the step and of the policy.
            texts: K responses.
            P: their win probabilities, ``[K, K]``; NaN where one was not judged.
        """
        turns = [dict(message) for message in prompt.messages]
        self.rows["responses"].append(_table_row(turns, step, policy, policy, texts, texts, P))
        wins = win_rates(torch.tensor(P), torch.ones(len(P), dtype=torch.float64), torch.arange(len(P))).numpy()
        known = np.flatnonzero(~np.isnan(wins))
        self.left_out["responses without a judgement"] += len(wins) - len(known)
        if len(known):
            best, worst = int(known[wins[known].argmax()]), int(known[wins[known].argmin()])
            if wins[best] > wins[worst] and texts[best] != texts[worst]:
                chosen, rejected = [_turn(texts[best])], [_turn(texts[worst])]
                self.rows["explicit-prompt"].append({"prompt": turns, "chosen": chosen, "rejected": rejected})
                self.rows["implicit-prompt"].append({"chosen": turns + chosen, "rejected": turns + rejected})
            else:
                self.left_out["prompts whose responses all win the same"] += 1
        for k in known:
            if wins[k] == 0.5:
                self.left_out["responses that win exactly half"] += 1
                continue
            row = {"prompt": turns, "completion": [_turn(texts[int(k)])], "label": bool(wins[k] > 0.5)}
            self.rows["unpaired"].append(row)

    def add_against(
        self,
        prompt: Prompt,
        step: str,
        names: tuple[str, str],
        texts: tuple[Sequence[str], Sequence[str]],
        P: np.ndarray,
    ) -> None:
        """Add the responses of two policies compared with each other, to the whole tables alone."""
        turns = [dict(message) for message in prompt.messages]
        self.rows["responses"].append(_table_row(turns, step, *names, *texts, P))


def preferences(home: RunFolder) -> Preferences:
    """The judged responses of all steps of a run.

    Raises:
        NashwardError: the run has judged nothing, or has not trained a step whose weights its objectives have.
    """
    weights = last_weights(home.path)
    if weights == {}:
        raise NashwardError(
            f"{home.path} has trained no step yet: the weights of its objectives, by which one response is better than "
            "another, are not known"
        )
    prompts = {prompt.id: prompt for prompt in played_prompts(home)}
    opponents = StoredOpponents.of_run(home).members(home, list(prompts.values()))
    # by policy and prompt: the newest that were sampled
    texts: dict[str, dict[str, list[str]]] = {}
    stored = {opponent.label: opponent.texts for opponent in opponents.values()}
    found = Preferences(weights=weights)
    for step in home.steps():
        for policy in shard_names(step / "responses"):
            texts.setdefault(policy, {}).update(texts_by_prompt(shards(step / "responses", policy)))
        for prompt, tables in by_prompt(
            shards(step / "judgements", "*"), ["prompt", "rows", "columns", "P"], ["objectives"]
        ):
            for table in tables:
                _add(found, prompts[prompt], step.name, table, {**stored, **texts})
    if not found.rows["responses"]:
        raise NashwardError(f"{home.path} has judged no responses yet: there are no preferences to export")
    found.left_out += Counter()
    return found


def _add(
    found: Preferences,
    prompt: Prompt,
    step: str,
    table: Mapping[str, Any],
    texts: Mapping[str, Mapping[str, Sequence[str]]],
) -> None:
    names, P = (table["rows"], table["columns"]), table_of(table, found.weights)
    first, second = (texts.get(name, {}).get(prompt.id) for name in names)
    if first is None or len(first) != len(P):
        raise NashwardError(f"{step} judged responses of {names[0]} that are not in the run any more")
    if names[0] == names[1]:
        found.add(prompt, step, names[0], first, P)
    elif second is not None:
        found.add_against(prompt, step, names, (first, second), P)
    else:
        found.left_out["tables against opponents that are not stored with the run"] += 1


def _table_row(
    turns: list[dict[str, Any]], step: str, policy: str, opponent: str, texts: Sequence[str], others: Sequence[str],
    P: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    return {
        "prompt": turns, "step": step, "policy": policy, "opponent": opponent, "responses": list(texts),
        "opponent_responses": list(others), "P": P.tolist(),
    }  # fmt: skip


def _turn(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def write_preferences(found: Preferences, folder: Path) -> None:
    """Write each format as NAME.jsonl and NAME.parquet into a new folder.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_folder(folder) as unfinished:
        for name, rows in found.rows.items():
            write_jsonl(unfinished / f"{name}.jsonl", rows)
            pq.write_table(pa.Table.from_pylist(rows, SCHEMAS[name]), unfinished / f"{name}.parquet")
