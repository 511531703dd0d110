"""A small chat model on a CPU in float32, bfloat16 and 4 bits: speed, memory, and what rounding does to a step.

A step of self-play moves a response's log-probability by some tenths of a nat. Here the same adapter is put on the same
base in each precision, and the log-ratio that it makes of each response is held against the one in float32.
Each precision is a process of its own, so that peaks do not mix.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from nashward import llm
from nashward.llm.planner import dry_run
from nashward.llm.planner.plan import HELD, PROCESS_GIB
from nashward.llm.planner.rounding import rounding
from nashward.llm.policy.base.checks import network_config
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.policy.placement import CPU_PLACEMENT
from nashward.llm.policy.sampling import sample
from nashward.llm.training.optimize import OPTIMISERS

PRECISIONS = {"float32": (torch.float32, False), "bfloat16": (torch.bfloat16, False), "NF4": (torch.float32, True)}
QUESTIONS = (
    "Name three rivers of Europe.", "How do I cook rice?", "Write a short poem on the sea.",
    "What is a good gift for a friend?", "Why is the sky blue?", "How do I learn to swim?",
    "What should I pack for a hike?", "Tell me a story about a fox.",
)  # fmt: skip
SPREAD = 0.01  # of the weights of the adapter's B: it moves a response by some tenths of a nat


def measure(policy: str, precision: str, texts: list[list[list[int]]] | None, tokens: int, pass_tokens: int) -> dict:
    """One precision; ``texts`` are those that float32 drew (None: draw them)."""
    dtype, quantise = PRECISIONS[precision]
    model = llm.LanguageModel.from_pretrained(policy, device="cpu", dtype=dtype, quantise=quantise)
    prompts = [model.encode(llm.Prompt(({"role": "user", "content": text},))) for text in QUESTIONS]
    model.activate("frozen")
    begun = time.process_time()
    with torch.no_grad():
        seeds = [[10 * number + k for k in range(4)] for number in range(len(prompts))]
        drawn = sample(model, prompts, seeds, llm.Sampling(max_new_tokens=tokens, batch=32))
    sampling = sum(len(one.ids) for row in drawn for one in row) / (time.process_time() - begun)
    if texts is None:
        texts = [[list(prompt), one.ids] for prompt, row in zip(prompts, drawn, strict=True) for one in row]
    starts, responses = ([pair[side] for pair in texts] for side in (0, 1))
    with torch.no_grad():
        before = sequence_logprobs(model.network, starts, responses, model.pad_id)
    model.activate("trained")
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.network.named_parameters():
        weight.requires_grad_("lora_" in name and ".trained." in name)
        if weight.requires_grad and "lora_B" in name:
            weight.data = SPREAD * torch.randn(weight.shape, generator=generator)
    at_once = max(1, pass_tokens // max(len(a) + len(b) for a, b in texts))
    after, begun = [], time.process_time()
    for first in range(0, len(texts), at_once):
        part = slice(first, first + at_once)
        values = sequence_logprobs(model.network, starts[part], responses[part], model.pad_id)
        values.sum().backward()
        after.append(values.detach())
    training = sum(map(len, responses)) / (time.process_time() - begun)
    foretold = planned(policy, dtype, quantise, texts[:at_once])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = rounding(model, policy, prompts, seed=0) if quantise else None
    return {
        "sampling": sampling, "training": training, "peak": peak, "planned": foretold, "texts": texts,
        "before": before.double().tolist(), "ratio": (torch.cat(after).double() - before.double()).tolist(),
        "rounding": None if found is None else str(found),
    }  # fmt: skip


def planned(policy: str, dtype: torch.dtype, quantise: bool, texts: list[list[list[int]]]) -> float:
    """GiB of a pass over these texts by a dry run, as ``plan`` counts them on a CPU."""
    network = dry_run.policy(network_config(policy), 16, CPU_PLACEMENT, quantise=quantise, dtype=dtype)
    peak = dry_run.training(
        network, [(prompt, ids) for prompt, ids in texts], lambda weights: OPTIMISERS["adamw"](weights, 1e-4)
    )
    return PROCESS_GIB + (peak.weights + HELD * peak.activations + peak.gradients) / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="real:smollm2-135m")
    parser.add_argument("--tokens", type=int, default=48, help="of a response")
    parser.add_argument("--pass-tokens", type=int, nargs="+", default=[512], help="in a pass of training")
    parser.add_argument("--one", choices=PRECISIONS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        texts = json.load(sys.stdin)
        print(json.dumps(measure(args.policy, args.one, texts, args.tokens, args.pass_tokens[0])))
        return
    texts, exact = None, None
    print("precision  pass  sampled/s  trained/s  peak, GiB  planned  log-probability  log-ratio (rms, nats)")
    for precision, size in [(name, size) for name in PRECISIONS for size in args.pass_tokens]:
        command = [sys.executable, __file__, "--policy", args.policy, "--tokens", str(args.tokens), "--one", precision]
        done = subprocess.run([*command, "--pass-tokens", str(size)], input=json.dumps(texts), text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)  # fmt: skip
        found = json.loads(done.stdout.splitlines()[-1])
        texts, exact = found["texts"], exact or found
        before, ratio, first = (torch.tensor(one) for one in (found["before"], found["ratio"], exact["ratio"]))
        off = [float((x - torch.tensor(y)).square().mean().sqrt()) for x, y in
               ((before, exact["before"]), (ratio, exact["ratio"]))]  # fmt: skip
        print(
            f"{precision:9}{size:6}{found['sampling']:11.0f}{found['training']:11.0f}{found['peak']:11.2f}"
            f"{found['planned']:9.2f}"
            f"   off by {off[0]:6.3f}   off by {off[1]:.3f} of {float(first.square().mean().sqrt()):.3f}",
            flush=True,
        )
        if found["rounding"]:
            print(found["rounding"])


if __name__ == "__main__":
    main()
