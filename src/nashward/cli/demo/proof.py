"""``nashward demo --proof``: one algebra. A language model's iterates lie on the table's, solver by solver."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nashward import games
from nashward.counted import counted
from nashward.errors import NashwardError
from nashward.games import plots

from .one_thread import one_thread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nashward.llm.config.fit import Loss

SOLVERS: dict[str, games.Solver] = {
    "MWU": games.MWU(step=1.0),
    "optimistic MWU": games.OptimisticMWU(step=2.0),
    "extragradient": games.ExtraGradient(step=2.0),
    "magnetic mirror descent": games.MagneticMirrorDescent(step=0.8, tau=0.2),
}
LOGITS: Sequence[float] = (1.0, 0.0, -1.0)
PROMPT, RESPONSES = "?", ("ab", "ae", "bd")  # two of them share the first of their tokens
TOKENS = 2  # of each


@dataclass(frozen=True)
class Curve:
    """What one solver did: iterates pi_1 .. pi_{T+1} of the language model and of the table, [T + 1, n], and the
    mixture of what the language model played, [n]."""

    model: Tensor
    table: Tensor
    mixture: Tensor

    @property
    def distance(self) -> float:
        """The largest total variation between the two."""
        return float(games.total_variation(self.model, self.table).max())


@one_thread()
def proof(out: Path = Path("proof"), iterations: int = 40, progress: bool = True) -> Path:
    """Play each solver on COMAL's cycle from logits (1, 0, -1), by the table and by a language model; draw both.

    The language model is a random transformer of one layer with LoRA adapters; its responses can be enumerated, so that
    expectations are exact, and ``SelfPlay`` samples, judges and fits as it always does, by L-BFGS.

    Args:
        out: the folder for ``proof.png``.
        iterations: steps of each solver.
        progress: False: only the picture's place is printed.

    Raises:
        ValueError: iterations < 1.
        ImportError: the ``llm`` extra is missing.
    """
    if iterations < 1:
        raise NashwardError(f"iterations must be at least 1, got {iterations}")
    began = time.monotonic()
    game, curves = games.zoo.comal_cycle(), {}
    say: Callable[[str], object] = print if progress else lambda line: None
    say(
        f"COMAL's cycle from logits {LOGITS}, {counted(iterations, 'iteration')}; the language model against the table:"
    )
    with TemporaryDirectory() as folder:
        with redirect_stderr(io.StringIO()):  # bars
            policy = enumerable(Path(folder) / "policy")
        for name, solver in SOLVERS.items():
            curves[name] = played(game, solver, policy, Path(folder) / name, iterations)
            gap = float(games.duality_gap(game, curves[name].model[-1]))
            say(f"  {name:<24} total variation at most {curves[name].distance:.1e}; gap of the last {gap:.2e}")
    out.mkdir(parents=True, exist_ok=True)
    picture = out / "proof.png"
    figure(game, curves).savefig(picture, dpi=150)
    say(f"{time.monotonic() - began:.0f} seconds")
    print(f"picture: {picture}")
    return picture


def figure(game: games.PreferenceGame, curves: dict[str, Curve]) -> Figure:
    """The iterates on the simplex and their gaps: lines are the table's, marks the language model's."""
    paths = {name: curve.table for name, curve in curves.items()}
    drawn = plots.simplex(paths, games.nash(game).policy, game.labels, title="lines: table; marks: language model")
    drawn.set_size_inches(11, 4.6)
    grid = drawn.add_gridspec(1, 2)
    (triangle,) = drawn.axes
    triangle.set_subplotspec(grid[0, 0])
    gaps = drawn.add_subplot(grid[0, 1])
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    look = plots.looks(list(curves))  # as the lines on the simplex have
    for name, curve in curves.items():
        colour = look[name].colour
        at = np.arange(len(curve.table))
        triangle.plot(*(curve.model.numpy() @ corners).T, "o", color=colour, markersize=3, fillstyle="none")
        gaps.plot(at, games.duality_gap(game, curve.table), "-", color=colour, label=name, linewidth=1.4)
        gaps.plot(at, games.duality_gap(game, curve.model), "o", color=colour, markersize=4, fillstyle="none")
        if isinstance(SOLVERS[name], games.MWU):  # whose average converges, not its iterates
            mean, theirs = (_average(iterates) for iterates in (curve.table, curve.model))
            gaps.plot(
                at[1:], games.duality_gap(game, mean), "--", color=colour, label=f"{name}, average", linewidth=1.4
            )
            gaps.plot(at[1:], games.duality_gap(game, theirs), "s", color=colour, markersize=3, fillstyle="none")
    gaps.set(yscale="log", xlabel="iterations", ylabel="duality gap of the iterate", title=f"logits {LOGITS}")
    gaps.grid(alpha=0.25)
    gaps.legend(fontsize=8)
    return drawn


def _average(iterates: Tensor) -> Tensor:
    """The averages of what was played, pi_1 .. pi_t for t = 1 .. T, [T, n]."""
    return iterates[:-1].cumsum(0) / torch.arange(1, len(iterates))[:, None]


def played(
    game: games.PreferenceGame,
    solver: games.Solver,
    policy: Path,
    folder: Path,
    iterations: int,
    logits: Sequence[float] = LOGITS,
    loss: Loss = "mirror",
) -> Curve:
    """A run of ``SelfPlay`` on the ``enumerable`` policy of these logits, beside the table's of the same solver."""
    from nashward import llm
    from nashward.llm.store.run_folder import step_name

    def wins(prompt: str, first: str, second: str) -> float:
        return float(game.P[RESPONSES.index(first), RESPONSES.index(second)])

    source = llm.Enumerated(tuple(map(tuple, _ids(policy)[1])))
    fit = llm.Fit(
        optimiser="lbfgs", learning_rate=1.0, schedule="constant", warmup=0.0, epochs=2, batch=1, held_out=0.0,
        validation=0.0, max_grad_norm=float("inf"), loss=loss,
    )  # fmt: skip
    play = llm.SelfPlay(
        policy=policy,
        oracle=llm.oracles.Function(wins, symmetric=True, name="table"),
        solver=solver,
        prompts=[PROMPT],
        folder=folder,
        source=source,
        config=llm.RunConfig(iterations=iterations, fit=fit, lora=llm.Lora(rank=4), quantise=False),
    )
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # a line and bars for each of many fits
        run = play.run()

    def mix(adapter: Path) -> Tensor:
        with play.model.use_adapter(adapter):
            (answers,) = source.draw(play.model, [_ids(policy)[0]], [])
        return torch.tensor([answer.weight for answer in answers], dtype=torch.float64)

    stages = [folder / "start", *(folder / step_name(t) for t in range(1, iterations + 1))]
    mixes = torch.stack([mix(stage / "adapter") for stage in stages])
    mixture = torch.stack([weight * mix(adapter) for adapter, weight in run.average.members]).sum(0)
    start = torch.tensor(logits, dtype=torch.float64).softmax(0)
    every = range(1, iterations + 1)
    table = games.solve(game, solver, iterations, start, record=every, keep_policies=True).policies["last"]
    return Curve(mixes, torch.cat([start[None], table]), mixture)


def _ids(policy: Path) -> tuple[list[int], list[list[int]]]:
    """The token ids of the prompt and of the responses."""
    from transformers import AutoTokenizer

    from nashward.llm import Prompt
    from nashward.llm.policy.chat_template import encode

    tokenizer: Any = AutoTokenizer.from_pretrained(policy, trust_remote_code=False)
    prompt = encode(tokenizer, Prompt(({"role": "user", "content": PROMPT},)))
    return prompt, [tokenizer(text, add_special_tokens=False)["input_ids"] for text in RESPONSES]


def enumerable(folder: Path, logits: Sequence[float] = LOGITS) -> Path:
    """A random Llama of one layer whose head is moved as little as gives the responses the wanted start."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from nashward.llm import pocket

    tokenizer: Any = AutoTokenizer.from_pretrained(pocket.POLICY, trust_remote_code=False)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.3,  # a head this steep can represent large log-ratios
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network: Any = LlamaForCausalLM(config)
    prompt, responses = _ids(folder)
    head = network.lm_head.weight
    for _ in range(10):  # Gauss-Newton on the responses' centred log-probabilities
        scores = torch.stack([_score(network, prompt, ids) for ids in responses])
        missing = torch.tensor(logits) - scores
        rows = [torch.autograd.grad(score, head, retain_graph=True)[0].flatten() for score in scores]
        slopes = torch.stack(rows) - torch.stack(rows).mean(0)
        with torch.no_grad():
            head += (torch.linalg.pinv(slopes) @ (missing - missing.mean())).view_as(head)
    network.save_pretrained(folder)
    return folder


def _score(network: Any, prompt: list[int], response: list[int]) -> Tensor:
    logits = network(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(response)[:, None]).sum()
