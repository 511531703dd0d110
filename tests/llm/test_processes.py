"""Several processes as one: what each sees, takes and waits for; without a launcher nothing is connected."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from nashward.errors import LostProcessError, OtherProcessError
from nashward.llm.processes import Interrupted, processes
from nashward.llm.processes.place import WAIT

from .ranks import Ranks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forks, which Windows has not")


def test_one_process_connects_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")  # left behind by something that is no launcher: there is no RANK
    assert (processes.count, processes.rank, processes.main) == (1, 0, True)
    with processes.session():
        assert processes.gather("a") == ["a"]
        assert processes.least(None) is None
    assert not torch.distributed.is_initialized()


def test_all_act_as_one(tmp_path: Path) -> None:
    large = bytes(range(256)) * 40_000  # above what the store takes at once

    def work(rank: int) -> object:
        with processes.session():
            taken = list(processes.share(range(7)))
            mapped = processes.map(lambda k: torch.full((k + 1,), float(k)), range(5))
            values = [torch.tensor([1.0 + rank, 2.0]), torch.tensor([[10.0 * rank]])]
            processes.sum_(values)
            same = [torch.tensor([float(rank)])]
            processes.copy_(same)
            tally = processes.tally()
            tally.add(rank, 2.0)
            tally.wait(3)
            if rank:
                processes.send({"out_of_memory": "response"})
            inside = processes.decided(lambda: (processes.count, processes.gather(rank)))
            decided = processes.decided(lambda: (processes.rank, large))
            processes.gather(None)
            return {
                "taken": taken, "mapped": [m.tolist() for m in mapped], "sums": [v.tolist() for v in values],
                "same": same[0].item(), "total": tally.total, "decided": decided == (0, large), "inside": inside,
                "least": (processes.least(5 - rank), processes.least(None if rank else 5)),
                "any": (processes.any(rank == 1), processes.any(False)), "events": processes.received(),
            }  # fmt: skip

    found = Ranks(3, work, tmp_path).values()
    assert sorted(k for one in found for k in one["taken"]) == list(range(7))
    for rank, one in enumerate(found):
        assert one["mapped"] == [[float(k)] * (k + 1) for k in range(5)]
        assert one["sums"] == [[6.0, 6.0], [[30.0]]]
        assert (one["same"], one["total"], one["decided"]) == (0.0, (3, 6), True)
        assert one["inside"] == (1, [0])  # the first process is alone where it decides
        assert one["least"] == (3, None)
        assert one["any"] == (True, False)
        assert sorted(event["rank"] for event in one["events"]) == ([] if rank else [1, 2])


def test_a_shared_value_is_changed_by_one_at_a_time(tmp_path: Path) -> None:
    own = processes.shared("a list", [0])
    assert (own.change(lambda value: [*value, 1]), own.change(lambda value: value)) == ([0, 1], [0, 1])

    def work(rank: int) -> object:
        with processes.session():
            value = processes.shared("a list", [0])
            for number in processes.share(range(60)):  # an item of this process alone: nobody waits for the others
                value.change(lambda numbers, number=number: [*numbers, number + 1])  # type: ignore[misc]
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda _: value.change(lambda numbers: [numbers[0] + 1, *numbers[1:]]), range(20)))
            processes.gather(None)
            with pytest.raises(ZeroDivisionError):
                value.change(lambda numbers: [1 // 0])
            return value.change(lambda numbers: numbers)

    found = Ranks(3, work, tmp_path).values()
    assert found == [found[0]] * 3
    assert found[0][0] == 60
    assert sorted(found[0][1:]) == list(range(1, 61))


@pytest.mark.slow  # it waits; a run in which one hangs is quick
def test_one_that_hangs_is_named_with_its_stage(tmp_path: Path) -> None:
    def work(rank: int) -> object:
        processes.at("iteration-03: sampling")
        processes.gather(None)
        processes.at("iteration-03: judging")
        processes.gather(None)
        os.environ[WAIT] = "1"
        if rank == 1:
            time.sleep(60)
        try:
            processes.gather(None)
        except LostProcessError as error:
            return str(error)
        return "came through"

    ranks = Ranks(2, work, tmp_path)
    ranks.wait_for(0)
    ranks.kill(1)
    ranks.wait()
    message = (tmp_path / "value-0").read_bytes().decode(errors="replace")
    assert "rank 1 hangs (iteration-03: judging)" in message


def test_where_one_fails_the_others_stop(tmp_path: Path) -> None:
    def work(rank: int) -> object:
        try:
            with processes.session():
                processes.at("iteration-01: sampling")
                if rank == 1:
                    (tmp_path / "none" / "file").touch()
                for _ in processes.share(range(10**6)):
                    time.sleep(0.01)
        except OtherProcessError as error:
            return str(error), processes.speaks
        except OSError:
            return processes.prefix, processes.speaks
        return None

    first, second, third = Ranks(3, work, tmp_path).values()
    assert second == ("rank 1 (iteration-01: sampling): ", True)
    assert first == third == ("rank 1 failed (iteration-01: sampling)", False)


def test_what_all_find_is_shown_once(tmp_path: Path) -> None:
    def work(rank: int) -> object:
        try:
            with processes.session():
                (tmp_path / "none" / "file").touch()
        except OSError:
            return processes.speaks
        return None

    assert sorted(Ranks(3, work, tmp_path).values()) == [False, False, True]


def test_a_stop_of_one_stops_all(tmp_path: Path) -> None:
    def work(rank: int) -> object:
        import threading

        processes.stop = threading.Event()
        with processes.session():
            try:
                for number in processes.share(range(10**6)):
                    time.sleep(0.01)
                    if rank == 1 and number > 20:
                        processes.stop.set()
            except Interrupted:
                return "interrupted"
        return "ended"

    assert Ranks(3, work, tmp_path).values() == ["interrupted"] * 3
