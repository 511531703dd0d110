"""Tokens a second of sampling at a 7B shape in 4 bits: ours, plain `generate`, and the floor of reading the weights.

The floor of a batch of n rows is n bandwidth / bytes: a step reads the weights once. Ours is measured whole, with
prompts and the capture of graphs; a step also alone, as a graph and launched kernel by kernel.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from gpu_parts.card import RATES
from gpu_parts.random_policy import WORDS, policy_folder
from gpu_parts.results import attempt, parser, report, seconds, synchronise
from nashward.llm.planner.live_storage import resident_bytes
from nashward.llm.policy.decoding import Decoder
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
    options.add_argument("--base", default="nf4", choices=["nf4", "bf16"])
    given = options.parse_args(arguments)
    shape, prompt, new = ("toy", 8, 4) if given.toy else (given.shape, 256, 256)
    file = given.work / RATES
    bandwidth = json.loads(file.read_text()).get("bandwidth") if file.exists() else None
    folder = policy_folder(given.work, shape, given.device, quantised=given.base == "nf4")
    model = LanguageModel.from_pretrained(
        folder, device=given.device, dtype=torch.bfloat16, quantise=given.base == "nf4"
    )
    adapter = given.work / f"{shape}-{given.base}-adapter"
    model.save(adapter)
    size = resident_bytes(model.network) - _embeddings(model)

    def throughput(rows: int) -> None:
        ids = torch.randint(WORDS.start, WORDS.stop, (rows // 5, prompt)).tolist()
        seeds = [[5 * i + k for k in range(5)] for i in range(len(ids))]

        def ours(most: int) -> int:
            with model.use_adapter(adapter):
                drawn = sample(model, ids, seeds, Sampling(max_new_tokens=most, batch=rows))
            return sum(len(response.ids) for row in drawn for response in row)

        ours(2)
        rate = timed(lambda: ours(new), given.device)
        with model.use_adapter(adapter):
            plain = timed(lambda: _plain(model.network, ids, max(2, new // 8), given.device), given.device)
        more = {"plain_generate": round(plain, 1), "over_plain": round(rate / plain, 2)}
        if bandwidth:
            floor = rows * bandwidth * 1e9 / size
            more |= {"floor": round(floor), "share_of_floor": round(rate / floor, 3)}
        report(f"{shape} {given.base}, {rows} rows: sampling", rate, "tokens/s", **more)

    def step(rows: int) -> None:
        taken = {}
        with model.use_adapter(adapter) as network:
            for graphs in (False, True) if given.device == "cuda" else (False,):
                decoder = Decoder(network, rows, prompt + new, graphs)
                decoder.logits(rows, prompt)
                taken[graphs] = seconds(partial(decoder.logits, rows, prompt), given.device, 10) * 1e3
        report(f"{shape} {given.base}, {rows} rows: a step", taken.get(True, taken[False]), "ms",
               kernel_by_kernel=round(taken[False], 2))  # fmt: skip

    for rows in (5,) if given.toy else (5, 40, 160):
        attempt(f"{rows} rows: a step", partial(step, rows))
        attempt(f"{rows} rows", partial(throughput, rows))


def _plain(network: Any, prompts: list[list[int]], new: int, device: str) -> int:
    """Sampling as transformers does it by default, five rows a prompt."""
    ids = torch.tensor(prompts, device=device).repeat_interleave(5, 0)
    drawn = network.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, min_new_tokens=new, max_new_tokens=new
    )
    return drawn[:, ids.shape[1] :].numel()


def _embeddings(model: LanguageModel) -> int:
    """Bytes of the table of embeddings on the device, of which a token reads one row; 0 where it is the head."""
    base: Any = model.network.get_base_model()
    table, head = base.get_input_embeddings().weight, base.get_output_embeddings().weight
    return 0 if table is head or table.device != model.device else table.nbytes


if __name__ == "__main__":
    main()
