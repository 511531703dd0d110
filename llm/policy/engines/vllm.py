"""vLLM: which Python has it, and how it is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import torch

from nashward.errors import MissingPackageError, NashwardError
from nashward.shortened import quoted

from ...processes import processes
from ..base.weights import compute_dtype, default_device
from ..memory import free_share, host_memory

SERVER = "vllm.entrypoints.openai.api_server"  # `vllm serve` does not start where the package has another name
SERVED = "base"  # the name of the base on the server
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the ranks that vLLM has kernels for
CACHE = 4  # GiB of keys and values at most on a CPU, where vLLM would take most of the memory
INSTALL = "python -m venv vllm-env && vllm-env/bin/pip install vllm, then --engine-python vllm-env/bin/python"
# what this process has and a server of its own must not: its packages, and its place among those that torchrun started
NOT_PASSED = (
    "PYTHONPATH", "PYTHONHOME", "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip


@dataclass(frozen=True)
class VLLM:
    """vLLM's server of one model.

    Attributes:
        python: that of the environment with vLLM, see ``python_with_vllm``.
        model: a folder, or a hub id.
        options: vLLM's options by their names on the command line; None: one without a value.
        more: words that follow these; of an option given twice the later one counts.
        share: returns the share of the card's memory that is its own, when it is started; None: there is no card.

    Example:
        >>> VLLM("python", "llm/pocket/policy", {"dtype": "float32"}).command(8000)[3:7]
        ['--model', 'llm/pocket/policy', '--served-model-name', 'base']
    """

    python: str
    model: str
    options: Mapping[str, object] = field(default_factory=dict)
    more: Sequence[str] = ()
    share: Callable[[], float | None] = free_share

    def command(self, port: int) -> list[str]:
        """The words that start it on a port of this machine."""
        own: dict[str, object] = {
            "served-model-name": SERVED,
            "generation-config": "vllm",  # else the checkpoint's own top_k and penalties change the policy
            **self.options,
        }
        share = self.share()
        if share is not None:
            own["gpu-memory-utilization"] = f"{share:.3f}"
        elif default_device() == "cpu":
            own["enforce-eager"] = None  # compiling takes longer than it saves
        words = [
            word for name, value in own.items() for word in (f"--{name}", *([] if value is None else [str(value)]))
        ]
        place = ["--host", "127.0.0.1", "--port", str(port)]
        return [self.python, "-m", SERVER, "--model", self.model, *words, *self.more, *place]

    def environment(self, key: str) -> dict[str, str]:
        """The server's environment: that of this process, with the key that each call has to send."""
        environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED}
        environment |= {
            "VLLM_API_KEY": key,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_NO_USAGE_STATS": "1",
            "PYTHONSAFEPATH": "1",  # no module in the working directory is mistaken for one of its own
        }
        if Path(self.model).is_dir():
            environment["HF_HUB_OFFLINE"] = "1"
        if processes.count > 1 and (card := _card()) is not None:
            environment["CUDA_VISIBLE_DEVICES"] = card
        if default_device() == "cpu":
            free = host_memory(free=True) >> 30
            environment.setdefault("VLLM_CPU_KVCACHE_SPACE", str(max(1, min(CACHE, free // 4))))
            libraries = sorted(Path(self.python).parent.parent.glob("lib/libiomp5.so"))
            if libraries:  # the CPU build does not start where another OpenMP is loaded first
                environment.setdefault("LD_PRELOAD", str(libraries[0]))
        return environment


def dtype_here() -> str:
    """The dtype that the base is computed in on this machine, as vLLM names it."""
    return str(compute_dtype(default_device())).removeprefix("torch.")


def served_rank(rank: int) -> int:
    """The least rank that vLLM serves and that adapters of this rank fit in.

    Raises:
        NashwardError: there is none.

    Example:
        >>> served_rank(4), served_rank(16), served_rank(48)
        (8, 16, 64)
    """
    if rank > RANKS[-1]:
        raise NashwardError(f"vLLM serves adapters of rank {RANKS[-1]} at most, got {rank}; lower --rank")
    return min(served for served in RANKS if served >= rank)


def python_with_vllm(given: str | Path | None) -> str:
    """The Python that has vLLM; it is looked for, not imported.

    Args:
        given: a Python, by its path or its name; None: the one of this process.

    Raises:
        MissingPackageError: that Python has no vLLM.
        NashwardError: it is no program, or no Python; or this is Windows, where vLLM does not run.
    """
    if os.name == "nt":
        raise NashwardError("vLLM does not run on Windows; start nashward in WSL")
    if given is None:
        if find_spec("vllm") is None:
            raise MissingPackageError(
                f"there is no vLLM beside nashward, and it pins packages of its own: give it an environment: {INSTALL}"
            )
        return sys.executable
    path = shutil.which(Path(given).expanduser())
    if path is None:
        raise NashwardError(
            f"engine_python is {quoted(str(given), 200)}, which is no program; expected the path of a Python"
        )
    look = "import importlib.util as u, sys; print('vllm' if u.find_spec('vllm') else 'none')"
    environment = {name: value for name, value in os.environ.items() if name not in NOT_PASSED}
    try:
        found = subprocess.run(
            [path, "-c", look], env={**environment, "PYTHONSAFEPATH": "1"}, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NashwardError(f"engine_python {path} cannot be run ({type(error).__name__}); expected a Python") from None
    answer = found.stdout.decode(errors="replace").strip()
    if answer == "none":
        raise MissingPackageError(f"{path} has no vLLM: {path} -m pip install vllm")
    if answer != "vllm":
        raise NashwardError(f"engine_python {path} does not answer as a Python; expected one that has vLLM")
    return os.path.abspath(path)  # a link in an environment is not followed: it names the environment


def _card() -> str | None:
    """The card of this process among several, as ``CUDA_VISIBLE_DEVICES``; None where there is none."""
    if not torch.cuda.is_available():
        return None
    visible = [card for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card]
    number = torch.cuda.current_device()
    return visible[number] if visible else str(number)
