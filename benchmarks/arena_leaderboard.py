"""Bradley-Terry with and without style beside arena-rank and evalica on the same battles, and what a leaderboard takes.

python benchmarks/arena_leaderboard.py --peers /path/to/python/of/the/extra/arena

The peers pin numpy and jax, so they run in an environment of their own: pip install "nashward[arena]" there, or
pip install arena-rank==0.1.1 evalica. Without --peers only the times are printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import arena_battles
import measure
import numpy as np

from nashward.games.analysis.contextual import contextual_bradley_terry
from nashward.games.analysis.leaderboard import Battles, read_battles
from nashward.games.analysis.ratings import bradley_terry

PEERS = Path(__file__).parent / "arena_peers.py"


def parity(python: str, battles: Battles, folder: Path) -> None:
    """The largest differences from both peers in nats, of the errors in percent, and the ratio of the times."""
    assert battles.style is not None
    rms = np.sqrt((battles.style**2).mean(0))
    given = folder / "battles.npz"
    np.savez(given, first=battles.first, second=battles.second, won=battles.won, style=battles.style / rms)
    subprocess.run([python, str(PEERS), str(given), str(folder / "peers.npz")], check=True)
    peers = dict(np.load(folder / "peers.npz"))
    ours: dict[str, Any] = {}
    features: dict[str, np.ndarray] = {"plain": np.zeros((len(battles.won), 0)), "style": battles.style}
    times = {
        name: measure.cpu(lambda name=name: ours.update({name: _fit(battles, features[name])}), 3)  # type: ignore[misc]
        for name in features
    }
    table = bradley_terry(battles.total)
    rows = (
        ("plain, evalica", table.scores.numpy() - peers["evalica"], None, times["plain"], peers["evalica_s"]),
        ("plain, arena-rank", ours["plain"].scores - peers["plain"], ours["plain"].score_errors / peers["plain_error"],
         times["plain"], peers["plain_s"]),
        ("style, arena-rank", ours["style"].scores - peers["style"], ours["style"].score_errors / peers["style_error"],
         times["style"], peers["style_s"]),
        ("its coefficients", ours["style"].coefficients - peers["coefficients"], None,
         times["style"], peers["style_s"]),
    )  # fmt: skip
    print(f"{'':<20}{'largest difference':>20}{'of errors':>12}{'peer / ours':>14}")
    for name, difference, errors, own, peer in rows:
        of_errors = "" if errors is None else f"{100 * np.abs(errors - 1).max():.3f} %"
        print(f"{name:<20}{np.abs(difference).max():17.1e} nats{of_errors:>11}{float(peer) / own:12.1f} x")
        assert np.abs(difference).max() < 1e-4, name


def _fit(battles: Battles, features: np.ndarray) -> Any:
    return contextual_bradley_terry(battles.won, features, battles.first, battles.second, ridge=0.0)


def timed(file: Path, style: bool) -> tuple[float, float]:
    """Seconds of CPU to read the file, and of the whole leaderboard but for its printing."""
    from nashward.cli.commands.evaluation import leaderboard
    from nashward.cli.commands.evaluation.standings import ranked

    began = time.process_time()
    standings = leaderboard._fought(file, style, None, [], [])
    read = time.process_time() - began
    ranked(standings, 0)
    return read, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="the python of an environment with arena-rank and evalica")
    parser.add_argument("--battles", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--models", type=int, default=200)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.peers is not None:
            file = arena_battles.write(folder / "battles.jsonl", arena_battles.planted(20), 50_000)
            parity(given.peers, read_battles(file, style=True), folder)
            print("(50,000 battles of 20 models; arena-rank without its penalty, its weights of pairs and its means)")
        print(f"{'battles':>9}{'models':>8}   {'read':>8}{'all':>8}{'with style, all':>18}   seconds of CPU")
        for battles in given.battles:
            file = arena_battles.write(folder / "battles.jsonl", arena_battles.planted(given.models), battles)
            read, plain = timed(file, style=False)
            styled = timed(file, style=True)[1]
            print(f"{battles:>9}{given.models:>8}   {read:8.1f}{plain:8.1f}{styled:18.1f}")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
