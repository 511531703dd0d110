"""Memory and time of a training step on one prompt's responses: nashward, TRL's DPOTrainer and plain logits.

    python benchmarks/train_memory_speed.py [--vocabulary N] [--length 256] [--shape tiny|deep|mistral-7b|llama-3-8b]
        [--policy real:smollm2-135m] [--responses 5] [--prompt 128] [--threads 2] [--device cpu|cuda]
        [--variants ours trl-stored ...] [--json FILE]

All compute the loss that TRL calls sppo_hard, (l_w - 1/(2 beta))^2 + (l_l + 1/(2 beta))^2 with l the log-ratio to the
reference, on the same model, the same token ids and from the same adapter. Two responses are a pair; of more each is
the better one of a pair with the next, and the loss is the mean over pairs. TRL passes a response once for each pair
that it is in, and is credited with its tokens as often; the others pass it once. It ends with an error where the first
loss or the gradients differ: the cost of something else would be no cost. TRL is optional: pip install trl==1.16.0. On
CUDA the base is NF4 with bfloat16 compute, the peak the allocator's and the seconds those of the clock.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from gpu_parts.random_policy import EOS, PAD, SHAPES, WORDS, configuration, policy_folder, tokenizer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from nashward.errors import NashwardError
from nashward.llm.planner.live_storage import LiveStorage
from nashward.llm.policy.base.weights import keep_gradients, load_base
from nashward.llm.policy.local.names import local_model
from nashward.llm.policy.logprobs import sequence_logprobs
from nashward.llm.training import regression

LORA = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
BETA = 0.001
LOSS = 2 * (0.5 / BETA) ** 2  # of a policy that equals its reference
LEARNING_RATE, MAX_GRAD_NORM = 1e-4, 1.0
GRADIENTS = {"cpu": 1e-4, "cuda": 5e-2}  # relative difference allowed, in float32 and in bfloat16
VARIANTS = {
    "ours": "nashward, reference stored",
    "ours-batch": "nashward, reference stored, one pass",
    "ours-inline": "nashward, reference inline",
    "plain": "plain logits, reference inline",
    "trl-stored": "TRL, reference stored",
    "trl": "TRL, reference inline",
    "trl-liger": "TRL, reference stored, Liger",
}


@dataclass(frozen=True)
class Responses:
    """One prompt and its responses."""

    prompt: list[int]
    responses: list[list[int]]

    @classmethod
    def random(cls, count: int, length: int, prompt: int) -> Responses:
        """Texts of ``length`` tokens, of which ``prompt`` are the prompt's; they end with EOS."""
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(WORDS.start, WORDS.stop, (count, length), generator=generator)
        ids[:, -1] = EOS
        return cls(ids[0, :prompt].tolist(), ids[:, prompt:].tolist())

    @property
    def ids(self) -> Tensor:
        return torch.tensor([self.prompt + response for response in self.responses])

    @property
    def pairs(self) -> Tensor:
        """The better and the worse one of each pair, ``[pairs, 2]``; the last one is no better one, for in a ring each
        would be pushed up as much as down."""
        return torch.tensor([[k, k + 1] for k in range(len(self.responses) - 1)])


class Meter:
    """Measures what a child was started for: the memory of the first step's passes, or the time of every step."""

    def __init__(self, given: argparse.Namespace):
        self.tracked, self.cuda = given.measure != "time", given.device == "cuda"
        self.steps = 1 if given.measure == "memory" else given.steps
        self.file = Path(given.folder) / f"{given.variant}.safetensors"
        self.results: dict[str, Any] = {"seconds": []}
        self.began, self.parts = 0.0, 0

    def passes(self, network: Any, run: Callable[[], Any], parts: int = 1) -> Any:
        """Run the forward and backward passes of a step, or one of its ``parts``, which give its loss."""
        self.parts += 1
        if self.parts > parts or not self.tracked:
            return run()
        gc.collect()
        resident = _peak_resident()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            static = torch.cuda.memory_allocated()
            loss = run()
            peak = torch.cuda.max_memory_allocated() - static
        else:
            with LiveStorage() as memory:
                loss = run()
            peak = memory.peak
        self.results["loss"] = self.results.get("loss", 0.0) + float(loss)
        self.results["peak"] = max(self.results.get("peak", 0), peak)
        self.results["resident"] = self.results.get("resident", 0) + _peak_resident() - resident
        save_file({k: p.grad.float().cpu() for k, p in network.named_parameters() if p.grad is not None}, self.file)
        return loss

    def begin(self) -> None:
        gc.collect()
        self.began = self._now()

    def end(self) -> None:
        self.results["seconds"].append(self._now() - self.began)

    def _now(self) -> float:
        if not self.cuda:
            return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()
        torch.cuda.synchronize()
        return time.perf_counter()


def _peak_resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def base(given: argparse.Namespace) -> Any:
    """The frozen model: float32 on a CPU, NF4 with double quantisation on CUDA."""
    if given.policy:
        return load_base(local_model(given.policy), "cpu", torch.float32, quantise=False, quantise_head=False)
    if given.device == "cpu":
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(configuration(given.shape, given.vocabulary), dtype=torch.float32)
    folder = policy_folder(given.work, given.shape, given.device)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map={"": given.device})
    keep_gradients(network)
    return network


def fill(network: Any) -> list[Tensor]:
    """Give the adapter the same start in every variant, A random and B zero; returns its weights."""
    generator = torch.Generator().manual_seed(2)
    weights = [(name, weight) for name, weight in network.named_parameters() if "lora_" in name]
    for name, weight in weights:
        if "lora_A" in name:
            start = torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5
            weight.data.copy_(start)
    return [weight for _, weight in weights]


def train(given: argparse.Namespace, texts: Responses, meter: Meter) -> None:
    """Steps of nashward, or of the plain variant."""
    network = get_peft_model(base(given), LORA)
    weights = fill(network)
    network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    network.enable_input_require_grads()
    network.train()
    optimiser = torch.optim.RMSprop(weights, lr=LEARNING_RATE)
    pairs, count = texts.pairs.to(given.device), len(texts.responses)
    ones = torch.ones(pairs.shape, device=given.device)
    gains = torch.tensor([[1.0, 0.0]], device=given.device).expand(pairs.shape)
    target = regression.targets(gains, 1 / BETA, ones, "constant")

    def score(k: int) -> Tensor:
        return sequence_logprobs(network, [texts.prompt], [texts.responses[k]], PAD)

    def score_plainly() -> Tensor:
        ids, start = texts.ids.to(given.device), len(texts.prompt)
        logits = network(input_ids=ids, use_cache=False).logits[:, start - 1 : -1].float()
        return logits.log_softmax(-1).gather(2, ids[:, start:, None]).sum((1, 2))

    def reference(how: Callable[..., Tensor], *args: int) -> Tensor:
        with torch.no_grad(), network.disable_adapter():
            return how(*args)

    def score_all() -> Tensor:
        return sequence_logprobs(network, [texts.prompt] * count, texts.responses, PAD)

    inline = given.variant in ("ours-inline", "plain")
    stored = None if inline else [reference(score, k) for k in range(count)]
    batch = reference(score_all) if given.variant == "ours-batch" else None

    def one_at_a_time() -> float:
        total = 0.0
        for k in range(count):
            anchor = stored[k] if stored else reference(score, k)
            ratio = (score(k) - anchor).expand(pairs.shape)
            loss = regression.loss(ratio, target, (pairs == k).float(), "constant") / len(pairs)
            loss.backward()
            total += float(loss.detach())
        return total

    def together() -> float:
        how = score_plainly if batch is None else score_all
        anchor = reference(how) if batch is None else batch
        loss = regression.loss((how() - anchor)[pairs], target, ones, "constant") / len(pairs)
        loss.backward()
        return float(loss.detach())

    for _ in range(meter.steps):
        meter.begin()
        meter.passes(network, together if given.variant in ("plain", "ours-batch") else one_at_a_time)
        torch.nn.utils.clip_grad_norm_(weights, MAX_GRAD_NORM)
        optimiser.step()
        optimiser.zero_grad()
        meter.end()


def train_trl(given: argparse.Namespace, given_texts: Responses, meter: Meter) -> None:
    """Steps of TRL's DPOTrainer, on the same ids through a tokenizer of one word an id."""
    import trl
    from datasets import Dataset

    words = tokenizer(WORDS.stop)
    texts = [" ".join(words.convert_ids_to_tokens(ids)) for ids in (given_texts.prompt, *given_texts.responses)]
    steps, pairs = meter.steps, given_texts.pairs.tolist()
    rows = [
        {"prompt": texts[0], "chosen": " " + texts[i + 1], "rejected": " " + texts[j + 1]} for i, j in pairs
    ] * steps
    batches = [given_texts.ids[pair] for pair in pairs]
    settings = trl.DPOConfig(
        output_dir=str(Path(given.folder) / "trl"),
        loss_type=["sppo_hard"],
        beta=BETA,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=len(pairs),
        max_steps=steps,
        max_length=given.length,
        learning_rate=LEARNING_RATE,
        max_grad_norm=MAX_GRAD_NORM,
        use_cpu=given.device == "cpu",
        bf16=given.device == "cuda",
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        precompute_ref_log_probs=given.variant != "trl",
        use_liger_kernel=given.variant == "trl-liger",
        lr_scheduler_type="constant",
        report_to="none",
        save_strategy="no",
        logging_steps=100,
        disable_tqdm=True,
    )

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            meter.begin()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            meter.end()

    class Trainer(trl.DPOTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
            if not any(torch.equal(inputs["input_ids"].cpu(), ids) for ids in batches):
                raise NashwardError("TRL trains on other token ids than the other variants")
            step = super().training_step
            return meter.passes(model, lambda: step(model, inputs, *args, **kwargs), len(pairs))

        def _get_train_sampler(self, *given: Any) -> Any:
            return torch.utils.data.SequentialSampler(rows)  # a step has each pair once

    trainer = Trainer(
        base(given),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=words,
        peft_config=LORA,
        callbacks=[Clock()],
    )
    fill(trainer.model)
    trainer.train()
    meter.results["version"] = f"{trl.__version__} "


def child(given: argparse.Namespace) -> None:
    """Run one variant in this process and write its results."""
    torch.set_num_threads(given.threads)
    transformers.logging.set_verbosity_error()
    meter, texts = Meter(given), Responses.random(given.responses, given.length, given.prompt)
    (train_trl if given.variant.startswith("trl") else train)(given, texts, meter)
    (Path(given.folder) / "results.json").write_text(json.dumps(meter.results))


def start(given: argparse.Namespace, folder: Path, variant: str, measure: str) -> dict[str, Any]:
    """Run a variant in a process of its own, so that neither peaks nor caches mix."""
    options = {"shape": given.shape, "length": given.length, "device": given.device, "work": given.work}
    options |= {"variant": variant, "measure": measure, "folder": folder, "vocabulary": given.vocabulary}
    options |= {name: getattr(given, name) for name in ("policy", "responses", "prompt", "threads", "steps")}
    command = [sys.executable, __file__, *(f"--{k}={v}" for k, v in options.items() if v is not None)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "HF_HUB_OFFLINE": "1"}
    if given.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
        return {"failed": last}
    file = folder / "results.json"
    return json.loads(file.read_text()) if file.exists() else {}


def difference(folder: Path, variant: str) -> float:
    """How far the gradient of a variant is from the plain one's, relative to that."""
    adapter, plain = load_file(folder / f"{variant}.safetensors"), load_file(folder / "plain.safetensors")
    if adapter.keys() != plain.keys():
        raise NashwardError(f"{variant} has gradients of other weights than the plain variant")
    off = sum(float((adapter[k].double() - plain[k].double()).square().sum()) for k in plain)
    return (off / sum(float(g.double().square().sum()) for g in plain.values())) ** 0.5


def speed(given: argparse.Namespace, variant: str, result: dict[str, Any]) -> float:
    """Tokens of responses a second; TRL passes a response once for each pair that it is in."""
    passed = 2 * (given.responses - 1) if variant.startswith("trl") else given.responses
    return passed * (given.length - given.prompt) / result["step"]


def compare(given: argparse.Namespace, folder: Path) -> list[str]:
    """Run all variants and print the table; returns what is wrong."""
    results: dict[str, dict[str, Any]] = {}
    wrong: list[str] = []
    wanted = given.variants or [name for name in VARIANTS if name != "trl-liger" or given.device == "cuda"]
    installed = importlib.util.find_spec("trl") is not None
    for variant in wanted:
        if variant.startswith("trl") and not installed:
            continue
        # the tracker of live memory on a CPU slows the step down; CUDA's own counter does not
        measures = ("memory", "time") if given.device == "cpu" else ("both",)
        measured = [start(given, folder, variant, measure) for measure in measures]
        failed = next((one["failed"] for one in measured if "failed" in one), None)
        results[variant] = {"failed": failed} if failed else {**measured[0], "step": min(measured[-1]["seconds"][1:])}
    shown = {name: one for name, one in results.items() if "failed" not in one}
    trl_name = "trl-stored" if given.responses > 2 and "trl-stored" in shown else "trl"
    trl = shown.get(trl_name, shown.get("trl-stored"))
    threads = f"{given.threads} thread{'s' * (given.threads > 1)}, {'CPU seconds' if given.threads == 1 else 'clock'}"
    where = f"cpu, float32, {threads}" if given.device == "cpu" else "cuda, NF4 and bfloat16, clock"
    model = given.policy or f"{given.shape}: vocabulary {configuration(given.shape, given.vocabulary).vocab_size}"
    sizes = f"{given.responses} responses of {given.length - given.prompt} tokens to a prompt of {given.prompt}"
    print(f"{model}, LoRA rank {LORA.r}, {sizes}")
    print(f"{where}; torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"trl {trl['version']}" if trl else "TRL: see below")
    print(f"{'':32}{'peak MiB':>10}{'less':>8}{'maxrss MiB':>12}{'s/step':>9}{'tokens/s':>10}{'faster':>8}{'loss':>12}"
          f"{'gradient':>10}")  # fmt: skip
    for variant in wanted:
        label = VARIANTS[variant]
        one = results.get(variant, {"failed": "not installed: pip install trl==1.16.0"})
        if "failed" in one:
            print(f"{label:32}  {one['failed']}")
            wrong += [f"{label}: {one['failed']}"] if variant in results else []
            continue
        less = f"{trl['peak'] / one['peak']:.1f}x" if trl else "-"
        faster = f"{speed(given, variant, one) / speed(given, trl_name, trl):.2f}x" if trl else "-"
        inline = "inline" in label  # the pass that stores the reference has raised the maxrss before the step
        resident = f"{one['resident'] / 2**20:.0f}" if given.device == "cpu" and inline else "-"
        off = difference(folder, variant) if "plain" in shown else float("nan")
        print(f"{label:32}{one['peak'] / 2**20:10.1f}{less:>8}{resident:>12}{one['step']:9.3f}"
              f"{speed(given, variant, one):10.0f}{faster:>8}{one['loss']:12.3f}{off:10.1e}")  # fmt: skip
        if abs(one["loss"] - LOSS) > 1e-6 * LOSS:
            wrong.append(f"{label}: the first loss is {one['loss']!r}, expected {LOSS!r}")
        if "plain" in shown and not off <= GRADIENTS[given.device]:
            wrong.append(f"{label}: the gradient is {off:.1e} from the plain one's, expected {GRADIENTS[given.device]}")
    if given.json:
        rows = {
            VARIANTS[name]: one if "failed" in one else {"peak_bytes": one["peak"], "seconds_a_step": one["step"],
                                                         "tokens_a_second": speed(given, name, one)}
            for name, one in results.items()
        }  # fmt: skip
        given.json.write_text(json.dumps(rows))
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--vocabulary", type=int, help="words (default: the shape's; tiny has 128256)")
    parser.add_argument("--length", type=int, default=256, help="tokens of a prompt with a response")
    parser.add_argument("--prompt", type=int, help="tokens of the prompt (default: a quarter)")
    parser.add_argument("--responses", type=int, default=2, help="to the prompt")
    parser.add_argument("--policy", help="a model in place of a random one, on a CPU: a folder, or real:smollm2-135m")
    parser.add_argument("--steps", type=int, default=3, help="that are timed; the first is left out")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="only these")
    parser.add_argument(
        "--work", type=Path, default=Path("build/gpu"), help="where a base on CUDA is written, and kept"
    )
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.variant:
        child(given)
        return
    given.prompt = given.prompt or given.length // 4
    if (
        given.steps < 2
        or given.responses < 2
        or not 0 < given.prompt < given.length - 1
        or (given.policy and given.device == "cuda")
    ):
        parser.error(
            "expected at least 2 steps and 2 responses, a prompt shorter than the length, and --policy on a CPU alone"
        )
    if given.length < 8 or (given.vocabulary or WORDS.stop) < WORDS.stop:
        parser.error(f"expected a length of at least 8 tokens and a vocabulary of at least {WORDS.stop} words")
    with tempfile.TemporaryDirectory() as folder:
        wrong = compare(given, Path(folder))
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
