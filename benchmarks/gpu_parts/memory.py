"""Peak memory of training, sampling and streamed layers at 7B and 8B shapes, against what `nashward plan` foretells.

The peak is that of the allocator, weights included; nvidia-smi's has the CUDA context and free blocks too.
"""

from __future__ import annotations

import gc
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from gpu_parts.random_policy import WORDS, policy_folder
from gpu_parts.results import attempt, parser, report, synchronise
from nashward.llm.config import Demand
from nashward.llm.planner.dry_run import Footprint
from nashward.llm.planner.plan import GIB, plan
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.model import LanguageModel
from nashward.llm.policy.placement import gpu_placement
from nashward.llm.policy.sampling import Sampling, sample
from nashward.llm.training.optimize import OPTIMISERS

STEPS = 3  # the first is left out of the time


class Peak:
    """The allocator's peak within the block, and nvidia-smi's, where there is a card."""

    def __init__(self, device: str):
        self.cuda, self.bytes, self.smi, self.done = device == "cuda", 0, 0.0, threading.Event()

    def __enter__(self) -> Peak:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.watch = threading.Thread(target=self._poll, daemon=True)
            self.watch.start()
        return self

    def _poll(self) -> None:
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        while not self.done.wait(0.1):
            shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
            self.smi = max(self.smi, float(shown[0]) / 1024 if shown and shown[0].isdigit() else 0.0)

    def __exit__(self, *error: Any) -> None:
        if self.cuda:
            torch.cuda.synchronize()
            self.bytes = torch.cuda.max_memory_allocated()
            time.sleep(0.2)
            self.done.set()
            self.watch.join()


def train(
    model: LanguageModel, adapter: Path, prompt: int, response: int, device: str
) -> tuple[Peak, float, float | None]:
    """Steps on one text of this length: the peak of all, the seconds of one, and those in which the card computes."""
    ids = torch.randint(WORDS.start, WORDS.stop, (prompt + response,), generator=torch.Generator().manual_seed(0))
    first, second = ids[:prompt].tolist(), ids[prompt:].tolist()
    times = []
    with model.training(adapter) as weights, Peak(device) as peak:
        optimiser = OPTIMISERS["adamw"](weights, 1e-4)
        for _ in range(STEPS):
            synchronise(device)
            began = time.perf_counter()
            sequence_logprobs(model.network, [first], [second], model.pad_id).sum().backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            # gradients are kept, as between the micro-batches of a step
            synchronise(device)
            times.append(time.perf_counter() - began)
        busy = _busy(lambda: sequence_logprobs(model.network, [first], [second], model.pad_id).sum().backward(), device)
        del optimiser
    return peak, min(times[1:]), busy


def _busy(call: Callable[[], Any], device: str) -> float | None:
    """Seconds that the kernels of a call take together; None without a card."""
    if device != "cuda":
        call()
        return None
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6


def compared(what: str, peak: Peak, foretold: Footprint, **more: Any) -> None:
    report(
        f"{what}: peak of the allocator", peak.bytes / GIB if peak.cuda else None, "GiB",
        plan=round(foretold.total / GIB, 3), ratio=round(peak.bytes / foretold.total, 3) if peak.cuda else None,
        nvidia_smi=round(peak.smi, 2), **more,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--shape", default="mistral-7b")
    options.add_argument("--length", type=int, default=2048, help="tokens of a prompt with its response")
    options.add_argument("--new-tokens", type=int, default=96, help="of sampling")
    given = options.parse_args(arguments)
    shape, length, new = ("toy", 64, 8) if given.toy else (given.shape, given.length, given.new_tokens)
    began = time.perf_counter()
    folder = policy_folder(given.work, shape, given.device)
    report(f"{shape}: the 4-bit base made and written", time.perf_counter() - began, "s")
    config = AutoConfig.from_pretrained(folder)
    card = torch.cuda.mem_get_info()[1] if given.device == "cuda" else 24 * GIB
    prompt = length // 4
    wanted = Demand(prompt_tokens=prompt, new_tokens=length - prompt, tokens=length, sampling_batch=5)
    drawn = Demand(prompt_tokens=prompt, new_tokens=new, tokens=prompt + new, sampling_batch=5)

    def measure(name: str, placement: dict[str, Any], sampled: bool) -> None:
        adapter = given.work / f"{shape}-adapter"
        began = time.perf_counter()
        # on a CPU too, so that it is rehearsed
        chosen = gpu_placement(tied=False, dtype=torch.bfloat16).but(placement)
        model = LanguageModel.from_pretrained(folder, device=given.device, dtype=torch.bfloat16, placement=chosen)
        report(f"{shape}{name}: loaded", time.perf_counter() - began, "s")
        model.save(adapter)
        if sampled:
            foretold = plan(config, card, drawn, placement=chosen)
            ids = torch.randint(WORDS.start, WORDS.stop, (prompt,), generator=torch.Generator().manual_seed(1)).tolist()
            with model.use_adapter(adapter):
                sample(model, [ids], [[0] * 5], Sampling(max_new_tokens=2))
                with Peak(given.device) as peak:
                    began = time.perf_counter()
                    (responses,) = sample(model, [ids], [list(range(5))], Sampling(max_new_tokens=new))
                    synchronise(given.device)
                    taken = time.perf_counter() - began
            tokens = sum(len(response.ids) for response in responses)
            compared(f"{shape}{name}, sampling K = 5", peak, foretold.phases["sampling"], prompt=prompt, new=new,
                     tokens_per_second=round(tokens / taken, 1))  # fmt: skip
        foretold = plan(config, card, wanted, placement=chosen)
        peak, step, busy = train(model, adapter, prompt, length - prompt, given.device)
        compared(
            f"{shape}{name}, training T = {length}", peak, foretold.phases["training"],
            tokens_per_second=round(length / step, 1), step_seconds=round(step, 3), kernels_seconds=busy,
        )  # fmt: skip

    attempt(f"{shape}", lambda: measure("", {}, True))
    gc.collect()
    attempt(f"{shape} streamed", lambda: measure(", layers streamed", {"layers": "host"}, False))


if __name__ == "__main__":
    main()
