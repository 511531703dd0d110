"""The speed of judging: PairRM by nashward and by the llm-blender package, on the same random checkpoint and texts.

    python benchmarks/judge_speed.py [--shape tiny|deberta-large|both|decoder] [--prompts 16] [--candidates 5]
        [--device cpu|cuda] [--threads 1] [--token-budget N [N ..]] [--seed 0] [--profile]

On a CPU the seconds are those of the process, all its threads together; on a GPU they are of the clock. It ends with an
error where the scores differ: speed of something else would be no speed. The prompts and responses are the pocket
models'; deberta-large (DeBERTa-v3-large, with a small vocabulary) takes about two minutes of CPU a prompt.

With --shape decoder: a language model of 26 million random weights as a judge (judge:MODEL), and one as a reward model,
with what rows of a prompt begin with computed once, against the same in padded rows.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import (
    AutoTokenizer,
    DebertaV2Config,
    DebertaV2Model,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from nashward.llm.oracles import LocalJudge, PairRM, RewardModel, preference_matrices
from nashward.llm.oracles.models.llm_blender import LLMBlenderOracle
from nashward.llm.oracles.models.network import NetworkOracle
from nashward.llm.oracles.models.pairrm import PairRMModel
from nashward.llm.pocket import PAIRRM, POLICY, styles

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    | {"position_buckets": 16, "initializer_range": 0.3},
    "deberta-large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    | {"intermediate_size": 4096, "position_buckets": 256, "initializer_range": 0.02},
}
DEBERTA_V3: dict[str, Any] = {"relative_attention": True, "norm_rel_ebd": "layer_norm", "share_att_key": True}
DEBERTA_V3 |= {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0}
# PairRM's, in float32 on a GPU too, so that both compute the same
RANKER = {"ranker_type": "pairranker", "model_type": "deberta", "source_maxlength": 1224, "candidate_maxlength": 412}
RANKER |= {"n_tasks": 1, "fp16": False}
HEAD = {"tiny": 10.0, "deberta-large": 100.0}  # by how much the head is enlarged, for scores that differ by about 1
TOLERANCE = 1e-4  # of a score
DECODER: dict[str, Any] = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8}
DECODER |= {"intermediate_size": 1536, "max_position_embeddings": 4096}

PRODUCTS = {"aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm"}
ARITHMETIC = {"aten::_softmax", "aten::gelu", "aten::tanh", "aten::native_layer_norm", "aten::add", "aten::add_"}
ARITHMETIC |= {"aten::sub", "aten::mul", "aten::mul_", "aten::div", "aten::div_", "aten::sqrt", "aten::masked_fill_"}
REST = "Python and the rest"


@dataclass(frozen=True)
class Measured:
    """The time of one way of judging, and its scores."""

    seconds: float
    padding: float  # share of the tokens in the forward passes
    tokens: int  # without padding
    scores: np.ndarray  # [prompts, candidates]


def build(folder: Path, shape: str) -> None:
    """A PairRM of random weights in llm-blender's layout, on the tokenizer of the pocket PairRM."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(PAIRRM)  # the markers are in it
    tokenizer.save_pretrained(folder / "base")
    config = DebertaV2Config(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **DEBERTA_V3, **SHAPES[shape]
    )
    encoder = DebertaV2Model(config)
    encoder.save_pretrained(folder / "base")
    state = PairRMModel(encoder, config.hidden_size).state_dict()
    state["head_layer.4.weight"] *= HEAD[shape]
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**RANKER, "model_name": "base"}))


def texts(prompts: int, candidates: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """Prompts, and for each different responses of one to six parts."""
    rng = np.random.default_rng(seed)
    prompt_texts, responses = [], []
    for _ in range(prompts):
        prompt, topic = styles.prompt(rng)
        distinct: dict[str, None] = {}
        while len(distinct) < candidates:
            parts = [styles.response(int(rng.integers(4)), topic, rng) for _ in range(rng.integers(1, 7))]
            distinct[" ".join(parts)] = None
        prompt_texts.append(prompt)
        responses.append(list(distinct))
    return prompt_texts, responses


def measure(judge: Callable[[], np.ndarray], encoder: torch.nn.Module, device: str) -> Measured:
    """Judge once, with an eye on what goes through the encoder."""
    masks: list[tuple[torch.Tensor, int]] = []

    def count(module: torch.nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        masks.append((inputs["attention_mask"].sum(), inputs["attention_mask"].numel()))

    hook = encoder.register_forward_pre_hook(count, with_kwargs=True)
    began = _now(device)
    scores = judge()
    seconds = _now(device) - began
    hook.remove()
    tokens, places = sum(int(real) for real, _ in masks), sum(size for _, size in masks)
    return Measured(seconds, 1 - tokens / places, tokens, scores)


def _now(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def compare(shape: str, given: argparse.Namespace) -> float:
    """Print the table of one shape; the largest difference of scores."""
    prompts, candidates = texts(given.prompts, given.candidates, given.seed)
    pairs = given.prompts * given.candidates * (given.candidates - 1)
    few = prompts[:1], [[text[:20] for text in candidates[0][:2]]]  # what happens once happens here
    measured: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, shape)
        with contextlib.redirect_stdout(io.StringIO()):
            blender = LLMBlenderOracle.from_pretrained(folder, device=given.device).blender
        rank = partial(blender.rank, return_scores=True, disable_tqdm=True)
        rank(*few)
        for size in (1, 8):
            judge = partial(rank, prompts, candidates, batch_size=size)
            measured[f"llm-blender, batch size {size}"] = measure(judge, blender.ranker.pretrained_model, given.device)
        del blender, rank, judge  # a large model once, not twice
        gc.collect()
        oracle = PairRM.from_pretrained(folder, device=given.device)

    def ours() -> np.ndarray:
        tables = [result.logits for result in preference_matrices(oracle, prompts, candidates)]
        return np.array([(L - L.T).mean(axis=1) for L in tables])

    preference_matrices(oracle, *few)
    for budget in given.token_budget or [oracle.token_budget]:
        oracle.token_budget = budget
        measured[f"nashward, {budget} tokens a batch"] = measure(ours, oracle.model.pretrained_model, given.device)

    first = next(iter(measured.values()))
    size = sum(parameter.numel() for parameter in oracle.model.parameters()) / 1e6
    where = f"cpu, {given.threads} thread(s), CPU seconds" if given.device == "cpu" else "cuda, float32, wall seconds"
    print(f"{shape}: {size:.3g} million parameters; {where}")
    print(f"{given.prompts} prompts, {given.candidates} candidates: {pairs} pairs of {first.tokens / pairs:.0f} tokens")
    print(f"{'':30}{'seconds':>9}{'pairs/s':>9}{'padding':>9}{'speed':>8}")
    for label, one in measured.items():
        speed, gain = pairs / one.seconds, first.seconds / one.seconds
        print(f"{label:30}{one.seconds:9.2f}{speed:9.3g}{one.padding:9.1%}{gain:7.2f}x")
    difference = max(float(np.abs(one.scores - first.scores).max()) for one in measured.values())
    if given.json:
        rows = {label: {"seconds": one.seconds, "pairs_a_second": pairs / one.seconds,
                        "over_batch_1": first.seconds / one.seconds} for label, one in measured.items()}  # fmt: skip
        given.json.write_text(json.dumps(rows))
    print(f"largest difference of scores {difference:.1e}; their standard deviation {first.scores.std():.2g}\n")
    if given.profile:
        show_profile(ours)
    return difference


def decoders(folder: Path, device: str) -> dict[str, NetworkOracle]:
    """A judge and a reward model on decoders of random weights, with the pocket policy's tokenizer."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(POLICY)
    config = LlamaConfig(vocab_size=len(tokenizer), **DECODER)
    LlamaForCausalLM(config).save_pretrained(folder / "judge")
    config.num_labels, config.pad_token_id = 1, tokenizer.pad_token_id
    LlamaForSequenceClassification(config).save_pretrained(folder / "reward")
    for name in ("judge", "reward"):
        tokenizer.save_pretrained(folder / name)
    return {
        "judge": LocalJudge.from_pretrained(folder / "judge", device=device),
        "reward model": RewardModel.from_pretrained(folder / "reward", device=device),
    }


def compare_beginnings(given: argparse.Namespace) -> float:
    """Print what computing the beginnings of rows once gains on a decoder; the largest difference of log-odds."""
    prompts, candidates = texts(given.prompts, given.candidates, given.seed)
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        oracles = decoders(Path(name), given.device)
    for label, oracle in oracles.items():
        seen: list[int] = []
        layer = oracle.model.decoder.base_model.layers[0]
        layer.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0].shape[:-1].numel()))
        found = []
        for way in ("once", "in padded rows"):
            share = contextlib.nullcontext() if way == "once" else padded_rows()
            with share:
                preference_matrices(oracle, prompts[:1], [candidates[0][:2]])  # what happens once happens here
                seen.clear()
                began = _now(given.device)
                results = preference_matrices(oracle, prompts, candidates)
                found.append((_now(given.device) - began, sum(seen), np.array([result.logits for result in results])))
        (fast, few, shared), (slow, many, alone) = found
        worst = max(worst, float(np.abs(shared - alone).max()))
        print(
            f"{label}, {given.candidates} responses, beginnings computed once: {few} tokens of {many} "
            f"({many / few:.2f} times fewer), {fast:.2f} s of {slow:.2f} ({slow / fast:.2f} times as fast)"
        )
    return worst


@contextlib.contextmanager
def padded_rows() -> Iterator[None]:
    """No network packs."""
    modules = "nashward.llm.policy.packing", "nashward.llm.oracles.models.network"
    with contextlib.ExitStack() as stack:
        for module in modules:
            stack.enter_context(patch(f"{module}.packs", lambda *given: False))
        yield


def show_profile(judge: Callable[[], np.ndarray]) -> None:
    """Where the CPU time of our judging goes: each moment is counted for the innermost operation that runs."""
    with profile(activities=[ProfilerActivity.CPU]) as run, record_function(REST):
        judge()
    events = sorted(run.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    groups = {"matrix products": 0.0, "other arithmetic": 0.0, "tensors moved or made": 0.0, REST: 0.0}
    for event in events:
        group = "matrix products" if event.key in PRODUCTS else "other arithmetic" if event.key in ARITHMETIC else REST
        if group == REST and event.key != REST:
            group = "tensors moved or made"
        groups[group] += event.self_cpu_time_total
    for event in events[:12]:
        print(f"  {event.self_cpu_time_total / total:6.1%}  {event.count:6}  {event.key}")
    print("share of the time: " + ", ".join(f"{group} {time / total:.1%}" for group, time in groups.items()) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=[*SHAPES, "both", "decoder"], default="tiny")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--candidates", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--token-budget", type=int, nargs="+", help="tokens of one of our forward passes (default: PairRM's own)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the texts")
    parser.add_argument("--profile", action="store_true", help="show where our time goes, on a CPU, at the last budget")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    given = parser.parse_args()
    if given.profile and given.device != "cpu":
        parser.error("--profile tells the time of a CPU; leave out --device cuda")
    if given.prompts < 1 or given.candidates < 2:
        parser.error("expected at least one prompt and two candidates")
    torch.set_num_threads(given.threads)
    logging.getLogger().setLevel(logging.ERROR)  # llm-blender warns at every start
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if given.shape == "decoder":
        worst = compare_beginnings(given)
    else:
        worst = max([compare(shape, given) for shape in (SHAPES if given.shape == "both" else [given.shape])])
    if worst >= TOLERANCE:
        sys.exit(f"the scores differ by {worst:.1e}; expected less than {TOLERANCE:.0e}")


if __name__ == "__main__":
    main()
