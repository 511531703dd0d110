"""What an oracle is told that it will be asked, against what it is asked; and mixtures, for which it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nashward import games, llm
from nashward.llm.run.step_tables import TablesAhead
from nashward.llm.store.files import read_shard, shards
from nashward.llm.store.run_folder import RunFolder

from ..tiny import ScoreOracle, high_bytes
from ..tiny_run import quick_run

START = "start"


def _ahead(solver: Any, after: str, same_prompts: bool = True, **config: Any) -> list[str]:
    ahead = TablesAhead(RunFolder("run"), solver, llm.RunConfig(iterations=3, **config), {}, objectives=False)
    return [f"{rows.label}~{columns.label}" for rows, columns in ahead.after(after, same_prompts)]


@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        (games.MWU(1.0), {2: "2~2", 3: "3~3"}),
        (games.OptimisticMWU(1.0), {2: "2~2 2~1", 3: "3~3 3~2"}),
        (games.NashMD(1.0, 0.1), {2: "2h~2h", 3: "3h~3h"}),
        (games.ExtraGradient(1.0), {2: "2~2 2h~2h", 3: "3~3 3h~3h"}),
    ],
    ids=repr,
)
def test_each_table_of_later_steps_counts_once(solver: Any, expected: dict[int, str]) -> None:
    names = {"1": START, "2": "iteration-01", "3": "iteration-02"}  # the policy that an iteration begins with
    halves = {f"{k}h": f"iteration-0{k}-half-1" for k in (1, 2, 3)}
    tables = [
        "~".join((names | halves)[name] for name in table.split("~")) for k in (2, 3) for table in expected[k].split()
    ]
    assert _ahead(solver, "iteration-01") == tables
    assert _ahead(solver, "iteration-03") == []


def test_on_other_prompts_every_iteration_has_all_of_its_tables_judged() -> None:
    solver = games.OptimisticMWU(1.0)
    assert len(_ahead(solver, "iteration-01", same_prompts=False)) == 6  # 2~2, 2~1, 1~1 and so on
    assert _ahead(games.NashMD(1.0, 0.1), "iteration-02", mixtures="token-level") == [
        "iteration-03-half-1~iteration-03-half-1"
    ]


class Counting(ScoreOracle):
    """Keeps what it is told to expect."""

    def __init__(self) -> None:
        super().__init__("counting", high_bytes().score)
        self.told: list[int] = []

    def expect(self, pairs: int) -> None:
        self.told.append(pairs)


@pytest.mark.parametrize("solver", [games.OptimisticMWU(1.0), games.NashMD(2.0, 0.1)], ids=repr)
def test_the_first_figure_is_of_the_whole_run(solver: Any, tiny_folder: Path, tmp_path: Path) -> None:
    oracle = Counting()
    run = quick_run(tiny_folder, tmp_path / "run", solver=solver, oracle=oracle).run()
    rows = [row for step in RunFolder(run.folder).steps() for file in shards(step / "judgements", "*")
            for row in read_shard(file, ["rows", "columns", "P"])]  # fmt: skip
    pairs = [
        2 * len(row["P"]) ** 2 if row["rows"] != row["columns"] else len(row["P"]) * (len(row["P"]) - 1) for row in rows
    ]
    assert oracle.told[0] == sum(pairs)
    assert oracle.told == sorted(oracle.told, reverse=True)
    if isinstance(solver, games.NashMD):
        first, mixture = (row for row in run.metrics if not row["opponent"])
        assert {
            Path(row["iteration"]).name
            for row in run.metrics
            if not shards(run.folder / row["iteration"] / "judgements", "*")
        } == {first["iteration"], mixture["iteration"]}
        # the mixture of the start with itself is the start: there is nothing to fit, and no reason to warn
        assert (first["learning_rate"], first["changed_fraction"], first["warning"], first["win_rate"]) == (
            None,
            0,
            None,
            None,
        )
        assert mixture["learning_rate"] is not None
        assert mixture["at_start"]["target_rms"] ** 2 == pytest.approx(mixture["at_start"]["loss"], rel=1e-5)
