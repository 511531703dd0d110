"""Tokens a second of sampling: ours, plain `generate`, and the floor that reading the weights sets, at 7B in 4 bits.

The floor of a batch of n rows is n bandwidth / bytes: every token reads the weights once. The same base in bfloat16
shows what 4 bits cost, and a static cache with compiled decoding what the launches of kernels cost.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from gpu_parts.card import RATES
from gpu_parts.random_policy import WORDS, policy_folder
from gpu_parts.results import attempt, parser, report, synchronise
from nashward.llm.planner.live_storage import resident_bytes
from nashward.llm.policy.model import LanguageModel
from nashward.llm.policy.sampling import Sampling, sample


def timed(call: Callable[[], int], device: str) -> float:
    """Tokens a second of a call that returns how many it drew."""
    synchronise(device)
    began = time.perf_counter()
    tokens = call()
    synchronise(device)
    return tokens / (time.perf_counter() - began)


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--shape", default="mistral-7b")
    options.add_argument("--bases", nargs="+", default=["nf4", "bf16"], choices=["nf4", "bf16"])
    options.add_argument("--compiled", action="store_true", help="a static cache and compiled decoding as well")
    given = options.parse_args(arguments)
    shape, prompt, new = ("toy", 8, 4) if given.toy else (given.shape, 256, 64)
    file = given.work / RATES
    bandwidth = json.loads(file.read_text()).get("bandwidth") if file.exists() else None
    for base in given.bases:
        attempt(f"{shape} {base}", lambda base=base: _base(given, shape, base, prompt, new, bandwidth))


def _base(given: Any, shape: str, base: str, prompt: int, new: int, bandwidth: float | None) -> None:
    folder = policy_folder(given.work, shape, given.device, quantised=base == "nf4")
    model = LanguageModel.from_pretrained(folder, device=given.device, dtype=torch.bfloat16, quantise=base == "nf4")
    adapter = given.work / f"{shape}-{base}-adapter"
    model.save(adapter)
    size = resident_bytes(model.network) - _embeddings(model)
    settings = Sampling(max_new_tokens=new, batch=512)
    for rows in (5,) if given.toy else (5, 40, 160):
        ids = torch.randint(WORDS.start, WORDS.stop, (max(1, rows // 5), prompt)).tolist()

        def ours(ids: list[list[int]] = ids) -> int:
            with model.use_adapter(adapter):
                drawn = sample(model, ids, [[5 * i + k for k in range(5)] for i in range(len(ids))], settings)
            return sum(len(response.ids) for row in drawn for response in row)

        timed(ours, given.device)
        ours_rate = timed(ours, given.device)
        plain_rate = timed(lambda ids=ids: _plain(model.network, ids, new, given.device), given.device)
        more = {"plain_generate": round(plain_rate, 1), "over_plain": round(ours_rate / plain_rate, 2)}
        if bandwidth:
            floor = rows * bandwidth * 1e9 / size
            more |= {"floor": round(floor), "share_of_floor": round(ours_rate / floor, 3)}
        report(f"{shape} {base}, {rows} rows: sampling", ours_rate, "tokens/s", **more)
    if given.compiled:
        model.offload()
        attempt(f"{shape} {base} compiled", lambda: _compiled(folder, shape, base, prompt, new, given.device))


def _plain(network: Any, prompts: list[list[int]], new: int, device: str, **settings: Any) -> int:
    """Sampling as transformers does it by default, five rows a prompt."""
    ids = torch.tensor(prompts, device=device).repeat_interleave(5, 0)
    drawn = network.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, min_new_tokens=new, max_new_tokens=new,
        **settings,
    )  # fmt: skip
    return drawn[:, ids.shape[1] :].numel()


def _compiled(folder: Path, shape: str, base: str, prompt: int, new: int, device: str) -> None:
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map={"": device})
    ids = torch.randint(WORDS.start, WORDS.stop, (8, prompt)).tolist()
    eager = [timed(lambda: _plain(network, ids, new, device), device) for _ in range(2)][1]
    began = time.perf_counter()
    rates = [timed(lambda: _plain(network, ids, new, device, cache_implementation="static"), device) for _ in range(3)]
    report(f"{shape} {base}, 40 rows: static cache, compiled", rates[-1], "tokens/s", eager=round(eager, 1),
           over_eager=round(rates[-1] / eager, 2), warm_up_seconds=round(time.perf_counter() - began, 1))  # fmt: skip


def _embeddings(model: LanguageModel) -> int:
    """Bytes of the table of embeddings on the device, of which a token reads one row; 0 where it is the head."""
    base: Any = model.network.get_base_model()
    table, head = base.get_input_embeddings().weight, base.get_output_embeddings().weight
    return 0 if table is head or table.device != model.device else table.nbytes


if __name__ == "__main__":
    main()
