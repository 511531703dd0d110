"""The command ``plan``: will it fit, with which batches, and for how long."""

from __future__ import annotations

import argparse
import platform
from typing import Any

from .options import OPTIMISERS

TFLOPS = 20.0  # what a small card may reach in 16 bits; an assumption, stated where it is used


def add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", required=True, metavar="ID_OR_FOLDER", help="only its configuration is read")
    parser.add_argument("--memory", metavar="SIZE", help="of the card, as 6GiB (default: what is free on this one)")
    parser.add_argument("--rank", type=int, default=16, help="of the LoRA (default: 16)")
    parser.add_argument("--optimiser", default="adamw", choices=OPTIMISERS, help="default: adamw")
    parser.add_argument("--responses", type=int, default=5, help="K, responses a prompt (default: 5)")
    parser.add_argument("--prompts-per-iteration", type=int, default=1000, help="default: 1000")
    parser.add_argument("--iterations", type=int, default=3, help="default: 3")
    parser.add_argument("--max-prompt-tokens", type=int, default=512, help="default: 512")
    parser.add_argument("--max-new-tokens", type=int, default=512, help="default: 512")
    parser.add_argument("--epochs", type=int, default=2, help="default: 2")
    parser.add_argument("--tflops", type=float, default=TFLOPS, help=f"reached by the card (default: {TFLOPS:g})")


def run(given: argparse.Namespace) -> int:
    import torch

    from nashward.llm.plan import GIB, plan, read_size

    if given.memory is not None:
        memory = read_size(given.memory)
    elif torch.cuda.is_available():
        memory = torch.cuda.mem_get_info()[0]
    else:
        raise ValueError("there is no GPU here to ask for its memory; say --memory, for example --memory 6GiB")
    if given.iterations < 1:
        raise ValueError(f"--iterations is {given.iterations}; expected at least 1")
    if not given.tflops > 0:
        raise ValueError(f"--tflops is {given.tflops}; expected a positive number")
    found = plan(
        given.policy,
        memory,
        rank=given.rank,
        optimiser=given.optimiser,
        responses=given.responses,
        prompts=given.prompts_per_iteration,
        prompt_tokens=given.max_prompt_tokens,
        new_tokens=given.max_new_tokens,
        epochs=given.epochs,
        windows=platform.system() == "Windows",
    )

    def gib(size: Any) -> str:
        return f"{size / GIB:.2f}"

    print(f"{given.policy}: base in 4 bits, LoRA of rank {given.rank} in float32, {given.optimiser}")
    print(f"card: {gib(memory)} GiB, of which {gib(found.reserved)} are left to the CUDA context and to fragments")
    print("GiB        weights  activations  gradients  optimiser  keys+values   peak")
    for name, phase in found.phases.items():
        row = (phase.weights, phase.activations, phase.gradients, phase.optimiser, phase.cache)
        widths = (9, 13, 11, 11, 13)
        print(
            f"{name:<9}"
            + "".join(f"{gib(x):>{w}}" for x, w in zip(row, widths, strict=True))
            + f"{gib(phase.total):>7}"
        )
    place = found.placement
    kept = ["checkpoints of the layers in host memory"]
    kept += ["embeddings in host memory"] if place.embeddings == "host" else []
    kept += [f"MLPs {place.mlp_tokens} tokens at once"] if place.mlp_tokens else []
    print(f"placement: {', '.join(kept)}. The oracle is not counted: it judges in a phase of its own")
    if not found.fits:
        raise ValueError("it does not fit: " + "; ".join(found.advice))
    tiles = f" --mlp-tokens {place.mlp_tokens}" if place.mlp_tokens else ""
    print(f"it fits with --sampling-batch {found.sampling_batch} --tokens {found.tokens}{tiles}")
    hours = found.flops * given.iterations / (given.tflops * 1e12) / 3600
    print(
        f"{given.iterations} iterations are {found.flops * given.iterations:.1e} floating-point operations: "
        f"{hours:.1f} hours at {given.tflops:g} TFLOP/s if sampling reached that (it is slower); judging is extra"
    )
    return 0
