"""Make the pocket models, a chat policy and a PairRM, from text and judgements that `styles` generates.

    python -m nashward.llm.pocket.make --out FOLDER     # the policy; the PairRM's base and votes on pairs
    nashward fit-oracle --pairs FOLDER/votes.jsonl --base FOLDER/pairrm-base --kind pairrm --out FOLDER/pairrm ...
    python -m nashward.llm.pocket.measure               # measures the shipped models

Float32, one seed, no network; `make pocket` has the whole command.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DebertaV2Config,
    DebertaV2Model,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from ..oracles.fitting.settings import warmed_cosine
from ..oracles.models.pairrm import MARKERS, PairRM, PairRMModel
from .styles import BASE_MIX, by_style, garbled, judged_table, prompt, response

VOCABULARY = 768
LONGEST = 4096  # positions of the policy
FLOOR = -18.0  # log-probability below which the policy keeps a token that never follows the one before it
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SYSTEMS = ("You are a helpful assistant.", "Be brief.", "Answer in English, please.", "You are a polite teacher.")


def _train_tokenizer(texts: Sequence[str], specials: Sequence[str]) -> Tokenizer:
    """A byte-level BPE tokenizer of `VOCABULARY` tokens: all 256 bytes are in it, so any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _sample_texts(rng: np.random.Generator, count: int) -> list[str]:
    """Texts to train the tokenizers on: prompts, and as many responses, the styles in turn."""
    texts = []
    for i in range(count):
        text, topic = prompt(rng)
        texts += [text[:200], response(i % 4, topic, rng)]
    return texts


def policy_tokenizer(rng: np.random.Generator) -> PreTrainedTokenizerFast:
    """The policy's tokenizer. As Mistral's does, it puts one BOS before a plain text; the chat template has its own."""
    specials = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>"]
    core = _train_tokenizer(_sample_texts(rng, 4000), specials)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=specials[3:],
        chat_template=CHAT_TEMPLATE,
        model_max_length=LONGEST,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _conversation(text: str, rng: np.random.Generator) -> list[dict[str, str]]:
    """The prompt as a chat: mostly one turn, sometimes with a system turn or an exchange before it."""
    turns = [{"role": "user", "content": text}]
    if rng.random() < 0.08:
        before, topic = prompt(rng)
        answer = response(int(rng.integers(4)), topic, rng)
        turns = [{"role": "user", "content": before[:300]}, {"role": "assistant", "content": answer}, *turns]
    if rng.random() < 0.1:
        turns = [{"role": "system", "content": SYSTEMS[int(rng.integers(len(SYSTEMS)))]}, *turns]
    return turns


def _batches(lengths: np.ndarray, budget: int, rows: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Indices of batches of like length, at most `rows` rows and `budget` tokens with padding, in random order."""
    order = np.argsort(lengths + rng.random(len(lengths)), kind="stable")
    batches, start = [], 0
    while start < len(order):
        end = start + 1
        while end < len(order) and end - start < rows and (end - start + 1) * lengths[order[end]] <= budget:
            end += 1
        batches.append(order[start:end])
        start = end
    for i in rng.permutation(len(batches)):
        yield batches[i]


def _shared_prompt(head: list[int], answers: list[list[int]]) -> dict[str, torch.Tensor]:
    """One row that holds a prompt once and all of its responses, each of which sees the prompt and itself.

    `queries` are the positions whose outputs predict `targets`; the prompt's last token predicts every first token.
    """
    ids, positions, segments = list(head), list(range(len(head))), [0] * len(head)
    queries: list[int] = []
    targets: list[int] = []
    for k, answer in enumerate(answers, start=1):
        queries += [len(head) - 1, *range(len(ids), len(ids) + len(answer) - 1)]
        ids += answer
        targets += answer
        positions += range(len(head), len(head) + len(answer))
        segments += [k] * len(answer)
    row = {"ids": ids, "positions": positions, "segments": segments, "queries": queries, "targets": targets}
    return {key: torch.tensor(value) for key, value in row.items()}


def _visible(segments: torch.Tensor) -> torch.Tensor:
    """The additive attention mask `[B, 1, T, T]` of rows from `_shared_prompt`; segment 0 is the prompt."""
    before = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool).tril()
    query, key = segments[:, :, None], segments[:, None, :]
    seen = before & ((key == 0) | (key == query))
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)[:, None]


def _progress(name: str, step: int, steps: int, measured: str, began: float) -> None:
    print(f"{name}: step {step + 1} of {steps}, {measured}, {time.monotonic() - began:.0f} s", flush=True)


def make_policy(folder: Path, seed: int = 0, prompts: int = 13_000, peak: float = 3e-3) -> None:
    """Train the chat policy on responses whose styles are mixed as `BASE_MIX`, whatever the prompt; save it, in fp16.

    Only the responses and their ends are trained.
    """
    rng = np.random.default_rng([seed, 1])
    torch.manual_seed(seed)
    tokenizer = policy_tokenizer(rng)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=320, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=LONGEST, tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config).train()
    rows = _training_rows(tokenizer, prompts, rng)
    lengths = np.array([len(row["ids"]) for row in rows])
    follows = torch.zeros(len(tokenizer), len(tokenizer), dtype=torch.bool)
    for row in rows:
        follows[row["ids"][row["queries"]], row["targets"]] = True
    batches = list(_batches(lengths, budget=5_000, rows=16, rng=rng))
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.05)
    began = time.monotonic()
    for step, batch in enumerate(batches):
        batch_rows = [rows[i] for i in batch]
        total = _loss(model, batch_rows, follows, tokenizer.pad_token_id)
        for group in optimizer.param_groups:
            group["lr"] = peak * warmed_cosine(step, len(batches), warmup=20)
        optimizer.zero_grad()
        # a fixed divisor: a batch of few long prompts does not count as much as one of many short ones
        (total / (16 * 10 * 16)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == len(batches) - 1:
            tokens = sum(len(row["targets"]) for row in batch_rows)
            _progress("policy", step, len(batches), f"loss {total.item() / tokens:.3f}", began)

    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=[tokenizer.eos_token_id], pad_token_id=tokenizer.pad_token_id,
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=64,
    )  # fmt: skip
    model.eval().half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _training_rows(
    tokenizer: PreTrainedTokenizerFast, prompts: int, rng: np.random.Generator
) -> list[dict[str, torch.Tensor]]:
    """A row for each prompt, with ten responses in the exact mix: the mix that is learned has no sampling error."""
    deck = np.repeat(np.arange(4), np.round(np.array(BASE_MIX) * 10).astype(int))
    rows = []
    for _ in range(prompts):
        text, topic = prompt(rng)
        head = tokenizer.apply_chat_template(_conversation(text, rng), tokenize=False, add_generation_prompt=True)
        answers = [response(int(style), topic, rng) + tokenizer.eos_token for style in deck]
        ids, *responses = tokenizer([head, *answers], add_special_tokens=False)["input_ids"]
        rows.append(_shared_prompt(ids, responses))
    return rows


def _loss(
    model: LlamaForCausalLM, rows: Sequence[dict[str, torch.Tensor]], follows: torch.Tensor, pad_id: int
) -> torch.Tensor:
    """The cross entropy of the responses, and a penalty on tokens that never follow the one before them.

    Cross entropy alone leaves about one response in fifty garbled, and a fit that moves the logits a little makes many
    of the rest likely. Tokens that never follow are pushed far down, as a long training would.
    """
    ids, positions, segments = (
        torch.nn.utils.rnn.pad_sequence([row[key] for row in rows], batch_first=True, padding_value=fill)
        for key, fill in (("ids", pad_id), ("positions", 0), ("segments", -1))
    )
    hidden = model.model(input_ids=ids, position_ids=positions, attention_mask=_visible(segments)).last_hidden_state
    queried = torch.cat([hidden[b, row["queries"]] for b, row in enumerate(rows)])
    targets = torch.cat([row["targets"] for row in rows])
    logits = model.lm_head(queried)
    current = torch.cat([row["ids"][row["queries"]] for row in rows])
    excess = (logits.log_softmax(-1) - FLOOR).relu().masked_fill(follows[current], 0.0)
    return cross_entropy(logits, targets, reduction="sum") + 0.01 * excess.sum()


@torch.inference_mode()
def sample(
    folder: Path, prompts: Sequence[str], seed: int, temperature: float = 1.0, max_new_tokens: int = 64
) -> tuple[list[str], np.ndarray]:
    """Sample one response of the policy to each prompt.

    Returns:
        The texts, and their numbers of tokens, EOS included.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False).eval()
    torch.manual_seed(seed)
    chats = [
        tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        for text in prompts
    ]
    texts, counts = [""] * len(chats), np.zeros(len(chats), dtype=int)
    order = sorted(range(len(chats)), key=lambda i: len(chats[i]))
    for start in range(0, len(order), 50):
        batch = order[start : start + 50]
        inputs = tokenizer([chats[i] for i in batch], return_tensors="pt", padding=True, add_special_tokens=False)
        inputs.pop("token_type_ids", None)
        options = {"do_sample": True, "temperature": temperature, "top_k": 0, "max_new_tokens": max_new_tokens}
        output = model.generate(**inputs, **options)
        output = output[:, inputs["input_ids"].shape[1] :]
        for i, row in zip(batch, output, strict=True):
            texts[i] = str(tokenizer.decode(row, skip_special_tokens=True))
            counts[i] = int((row != tokenizer.pad_token_id).sum())
    return texts, counts


def pairrm_tokenizer(rng: np.random.Generator) -> PreTrainedTokenizerFast:
    """The PairRM's tokenizer, [CLS] .. [SEP]; `PairRM` adds the four markers, as it does to DeBERTa's."""
    core = _train_tokenizer(_sample_texts(rng, 4000), ["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        clean_up_tokenization_spaces=False,
    )


def make_pairrm_base(folder: Path, policy: Path, seed: int = 0, texts: int = 16_000, peak: float = 2e-3) -> None:
    """Train a small encoder to tell the styles of two responses apart, and save it under an untrained PairRM head.

    It stands for a pretrained language model: from judgements alone, a model of this size soon learns a score per
    style, but a cycle late or, for some seeds, never.
    """
    rng = np.random.default_rng([seed, 2])
    torch.manual_seed(seed)
    base = pairrm_tokenizer(rng)
    base.add_tokens(list(MARKERS))
    shape: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
    shape |= {"intermediate_size": 192, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    # the rest as in DeBERTa-v3, in small
    shape |= {"relative_attention": True, "position_buckets": 32, "norm_rel_ebd": "layer_norm", "share_att_key": True}
    shape |= {"pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "type_vocab_size": 0}
    config = DebertaV2Config(vocab_size=len(base), **shape, pad_token_id=base.pad_token_id)
    model = PairRMModel(DebertaV2Model(config), config.hidden_size, dropout=0.0).train()
    oracle = PairRM(model, base, source_maxlength=512, candidate_maxlength=128)

    rows, styles = [], []
    for text, kinds, responses in _compared(policy, rng, seed, texts):
        rows.append(oracle.row(oracle.encode(text, responses)[0], (0, 1)))
        styles.append([kinds, kinds[::-1]])  # at each marker: the style of its response, and of the other
    lengths, truth = np.array([len(ids) for ids, _ in rows]), torch.tensor(np.array(styles))
    classifier = torch.nn.Linear(config.hidden_size, 2 * 5)

    batches = list(_batches(lengths, budget=4_800, rows=32, rng=rng))
    optimizer = torch.optim.AdamW(
        [*model.pretrained_model.parameters(), *classifier.parameters()], lr=peak, betas=(0.9, 0.98), weight_decay=0.01
    )
    began = time.monotonic()
    for step, batch in enumerate(batches):
        states = model.states(**oracle.collate([rows[i] for i in batch]))
        predicted = classifier(states[:, 1:]).unflatten(-1, (2, 5))  # [B, marker, response, style]
        loss = cross_entropy(predicted.flatten(0, 2), truth[batch].flatten())
        for group in optimizer.param_groups:
            group["lr"] = peak * warmed_cosine(step, len(batches), warmup=50)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == len(batches) - 1:
            _progress("PairRM's base", step, len(batches), f"loss {loss.item():.3f}", began)
    oracle.save_pretrained(folder)


def write_votes(file: Path, policy: Path, seed: int = 0, pairs: int = 17_000) -> None:
    """Write judgements of pairs of responses by the planted table, in the format of ``nashward fit-oracle``.

    A judgement depends on nothing but ``style_of`` of the two responses.
    """
    rng, table = np.random.default_rng([seed, 4]), judged_table()
    rows = [
        {"prompt": text, "a": a, "b": b, "p": float(table[kinds[0], kinds[1]])}
        for text, kinds, (a, b) in _compared(policy, rng, seed, pairs)
    ]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _compared(
    policy: Path, rng: np.random.Generator, seed: int, count: int
) -> Iterator[tuple[str, list[int], list[str]]]:
    """Prompts with two responses each and their styles (4: none). Half of the responses are the policy's."""
    pool = _response_pool(policy, rng, seed)
    for _ in range(count):
        text, topic = prompt(rng)
        if rng.random() < 0.7:
            text = text[:80]
        kinds = [int(kind) for kind in rng.choice(5, 2, p=(0.21, 0.21, 0.21, 0.21, 0.16))]
        yield text, kinds, [mixed_response(kind, topic, pool, rng) for kind in kinds]


def _response_pool(policy: Path, rng: np.random.Generator, seed: int, count: int = 800) -> list[list[str]]:
    """Responses that the policy wrote, sorted by style; the fifth list holds those of no style.

    A second round at a high temperature adds slips as the policy makes them, which are rare at temperature 1.
    """
    texts, _ = sample(policy, [prompt(rng)[0] for _ in range(count)], seed)
    slips, _ = sample(policy, [prompt(rng)[0] for _ in range(count // 2)], seed + 1, temperature=1.4)
    return by_style(texts + slips)


def mixed_response(kind: int, topic: str | None, pool: list[list[str]], rng: np.random.Generator) -> str:
    """A response of a style (4: of none), from the policy's pool or from the generator, half of the time each."""
    if pool[kind] and rng.random() < 0.5:
        return pool[kind][int(rng.integers(len(pool[kind])))]
    return garbled(rng) if kind == 4 else response(kind, topic, rng)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m nashward.llm.pocket.make", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="make policy/, pairrm-base/ and votes.jsonl in here")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # sums in one order: the same seed gives the same models
    make_policy(options.out / "policy", options.seed)
    make_pairrm_base(options.out / "pairrm-base", options.out / "policy", options.seed)
    write_votes(options.out / "votes.jsonl", options.out / "policy", options.seed)


if __name__ == "__main__":
    main()
