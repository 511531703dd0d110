"""Every kind of adapter that PEFT writes is read as PEFT reads it, or refused before a weight of the base is read."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from nashward.cli.main import main
from nashward.errors import NashwardError
from nashward.llm import LanguageModel, Mixture
from nashward.llm.policy import model as language_model
from nashward.llm.policy.adapters.adapter_config import adapter_config
from nashward.llm.policy.adapters.lora import interpolate
from nashward.llm.policy.adapters.peft_format import CONFIG, WEIGHTS
from nashward.llm.policy.logprobs import sequence_logprobs

from .. import tiny

PROMPT, RESPONSE = [0, 50, 60, 70], [40, 41, 42, 43, 6]
LINEAR = ["q_proj", "v_proj", "down_proj"]


def _base(source: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)


def _trained(source: Path, folder: Path, seed: int = 1, **settings: Any) -> Path:
    """An adapter of peft whose weights a training would have moved by a little."""
    options = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **settings}
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        network = get_peft_model(_base(source), LoraConfig(**options))
        for weight in (p for p in network.parameters() if p.requires_grad):
            weight.data += 0.05 * torch.randn(weight.shape)
        network.save_pretrained(str(folder))
    return folder


def _of_peft(source: Path, folder: Path) -> float:
    """log pi(response | prompt) of peft, from the network's own logits."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        network = PeftModel.from_pretrained(_base(source), str(folder)).eval()
        logits = network(torch.tensor([PROMPT + RESPONSE])).logits[0, len(PROMPT) - 1 : -1].double()
    return float(logits.log_softmax(-1)[range(len(RESPONSE)), RESPONSE].sum())


def _ours(model: LanguageModel, folder: Path) -> float:
    with model.use_adapter(folder) as network:
        return float(sequence_logprobs(network, [PROMPT], [RESPONSE], model.pad_id))


def _edit(folder: Path, **settings: Any) -> Path:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **settings}))
    return folder


def _without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*given: Any, **named: Any) -> None:
        raise AssertionError("the base's weights are read")

    monkeypatch.setattr(language_model, "load_base", load)


READ: dict[str, dict[str, Any]] = {
    "defaults": {},
    "init False": {"init_lora_weights": False},
    "init gaussian": {"init_lora_weights": "gaussian"},
    "init orthogonal": {"init_lora_weights": "orthogonal"},
    "init eva": {"init_lora_weights": "eva"},
    "init mica": {"init_lora_weights": "mica"},
    "use_rslora": {"use_rslora": True},
    "rank_pattern": {"rank_pattern": {"q_proj": 7, "layers.1.mlp.down_proj": 2}},
    "rank_pattern by regex": {"rank_pattern": {r".*\.0\..*": 1}},
    "alpha_pattern": {"alpha_pattern": {"v_proj": 3.5, "layers.0.self_attn.q_proj": 32}},
    "both patterns, rooted": {
        "rank_pattern": {"^model.layers.0.self_attn.q_proj": 8},
        "alpha_pattern": {"q_proj": 2},
        "use_rslora": True,
    },
    "eva redistributes ranks": {"init_lora_weights": "eva", "rank_pattern": {"v_proj": 1, "down_proj": 9}},
    "negative alpha": {"lora_alpha": -4},
    "fractional alpha": {"lora_alpha": 2.5},
    "regex": {"target_modules": r".*\.(q_proj|up_proj)"},
    "all-linear": {"target_modules": "all-linear"},
    "full names": {"target_modules": ["model.layers.1.self_attn.o_proj"]},
    "peft's own targets": {"target_modules": None},
    "exclude_modules": {"target_modules": "all-linear", "exclude_modules": ["k_proj"]},
    "exclude_modules by regex": {"target_modules": LINEAR, "exclude_modules": r".*layers\.0.*"},
    "layers_to_transform": {"layers_to_transform": [1]},
    "layers_to_transform, one": {"layers_to_transform": 0, "layers_pattern": "layers"},
    "dropout": {"lora_dropout": 0.3},
    "ensure_weight_tying": {"ensure_weight_tying": True},
    "task_type None": {"task_type": None},
}


@pytest.fixture(scope="module")
def plain(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On all linear layers of the model, so that its slots hold any other."""
    folder = tmp_path_factory.mktemp("plain") / "plain"
    return _trained(tiny_folder, folder, seed=5, r=9, target_modules="all-linear")


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path, plain: Path) -> LanguageModel:
    """A model in the shape of ``plain``; each test leaves its policies as they are."""
    return LanguageModel.from_pretrained(tiny_folder, plain, quantise=False)


@pytest.mark.parametrize("settings", READ.values(), ids=READ)
def test_what_is_read_is_read_as_peft_reads_it(
    settings: dict[str, Any], tiny_folder: Path, plain: Path, loaded: LanguageModel, tmp_path: Path
) -> None:
    """In slots of its own and in those of a larger one, after each other, copied, and by peft from the copy."""
    mine = _trained(tiny_folder, tmp_path / "mine", **settings)
    expected = {mine: _of_peft(tiny_folder, mine), plain: _of_peft(tiny_folder, plain)}
    own = LanguageModel.from_pretrained(tiny_folder, mine, quantise=False)
    assert _ours(own, mine) == pytest.approx(expected[mine], abs=1e-5)
    own.write_start_adapter(tmp_path / "start", mine)
    assert _ours(own, tmp_path / "start") == pytest.approx(expected[mine], abs=1e-5)
    assert _of_peft(tiny_folder, tmp_path / "start") == pytest.approx(expected[mine], abs=1e-5)
    for folder in (mine, plain, mine, plain):  # neither leaves anything behind
        assert _ours(loaded, folder) == pytest.approx(expected[folder], abs=1e-5)
    own.write_start_adapter(tmp_path / "none", None)  # the base, whatever the initialisation said
    with own.network.disable_adapter(), torch.no_grad():
        base = float(sequence_logprobs(own.network, [PROMPT], [RESPONSE], own.pad_id))
    assert _ours(own, tmp_path / "none") == base
    assert abs(base - expected[mine]) > 0.01


CHANGED_BASE = [
    "pissa",
    "pissa_niter_4",
    "olora",
    "OLoRA",
    "corda",
    "loftq",
    "lora_ga",
    "pissa_niter",
    "new_in_0.99",
    1,
]


@pytest.mark.parametrize("start", CHANGED_BASE)
def test_an_initialisation_that_changes_the_base_is_refused_before_its_weights_are_read(
    start: Any,
    tiny_folder: Path,
    plain: Path,
    loaded: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if start in ("pissa", "pissa_niter_4", "olora"):
        mine = _trained(tiny_folder, tmp_path / "mine", init_lora_weights=start)
    else:  # what needs a pass over data first, or is unknown
        mine = _edit(Path(shutil.copytree(plain, tmp_path / "mine")), init_lora_weights=start)
    _refused_by_both(tiny_folder, plain, mine, r"mine .*init_lora_weights", monkeypatch, loaded)


def test_pissa_that_peft_converted_to_a_plain_lora_is_read(tiny_folder: Path, tmp_path: Path) -> None:
    """W - s B0 A0 + s B A is W + s (B, -B0)(A; A0), twice the rank: what the refusal recommends."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(2)
        config = LoraConfig(r=3, lora_alpha=6, target_modules=LINEAR, task_type="CAUSAL_LM", init_lora_weights="pissa")
        network = get_peft_model(_base(tiny_folder), config)
        written: Any = network.peft_config["default"]
        written.init_lora_weights = True  # as peft's guide has it
        network.save_pretrained(str(tmp_path / "initial"))
        written.init_lora_weights = "pissa"
        for weight in (p for p in network.parameters() if p.requires_grad):
            weight.data += 0.05 * torch.randn(weight.shape)
        with torch.no_grad():
            logits = network.eval()(torch.tensor([PROMPT + RESPONSE])).logits[0, len(PROMPT) - 1 : -1].double()
        network.save_pretrained(
            str(tmp_path / "mine"), path_initial_model_for_weight_conversion=str(tmp_path / "initial")
        )
    expected = float(logits.log_softmax(-1)[range(len(RESPONSE)), RESPONSE].sum())
    model = LanguageModel.from_pretrained(tiny_folder, tmp_path / "mine", quantise=False)
    assert model.shape.rank == 6
    assert _ours(model, tmp_path / "mine") == pytest.approx(expected, abs=1e-4)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "use_dora": ({"use_dora": True}, "use_dora"),
    "lora_bias": ({"lora_bias": True}, "lora_bias"),
    "bias all": ({"bias": "all"}, "bias"),
    "bias lora_only": ({"bias": "lora_only"}, "bias"),
    "modules_to_save, head": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "modules_to_save, embeddings": ({"modules_to_save": ["embed_tokens"]}, "modules_to_save"),
    "modules_to_save, norm": ({"modules_to_save": ["norm"]}, "modules_to_save"),
    "trainable_token_indices": ({"trainable_token_indices": [3, 4]}, "trainable_token_indices"),
    "trainable_token_indices by layer": ({"trainable_token_indices": {"embed_tokens": [3]}}, "trainable_token_indices"),
    "target_parameters": ({"target_parameters": ["q_proj.weight"], "target_modules": []}, "target_parameters"),
    "layer_replication": ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    "alora": ({"alora_invocation_tokens": [50, 60]}, "alora_invocation_tokens"),
    "head in a regex": ({"target_modules": r".*(q_proj|head)"}, "head"),
    "head by its full name": ({"target_modules": ["model.layers.0.self_attn.q_proj", "lm_head"]}, "head"),
    "embeddings in a regex": ({"target_modules": r".*(q_proj|tokens)"}, "embeddings"),
}


@pytest.mark.parametrize(("settings", "named"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_lora_is_refused_before_a_weight_is_read(
    settings: dict[str, Any],
    named: str,
    tiny_folder: Path,
    plain: Path,
    loaded: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = _trained(tiny_folder, tmp_path / "mine", **settings)
    _refused_by_both(tiny_folder, plain, mine, named, monkeypatch, loaded)


def _refused_by_both(
    source: Path, plain: Path, mine: Path, named: str, monkeypatch: pytest.MonkeyPatch, loaded: LanguageModel
) -> None:
    """By a model that has loaded another adapter, whose policy stays as it is, and before weights are read."""
    before = _ours(loaded, plain)
    with pytest.raises(NashwardError, match=named):
        loaded.load("frozen", mine)
    assert _ours(loaded, plain) == before
    _without_weights(monkeypatch)
    with pytest.raises(NashwardError, match=named) as refusal:
        LanguageModel.from_pretrained(source, mine)
    assert str(mine) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("key", [field.name for field in dataclasses.fields(LoraConfig)] + ["a_field_of_a_later_peft"])
def test_every_field_of_the_installed_peft_is_read_has_no_effect_or_is_refused(
    key: str, plain: Path, tmp_path: Path
) -> None:
    """A field that no table here knows is refused where it is set, as one of a later release would be."""
    from nashward.llm.policy.adapters import peft_format

    mine = _edit(Path(shutil.copytree(plain, tmp_path / "mine")), **{key: {"a": 1}})
    if key in peft_format._NO_EFFECT - {"peft_type", "init_lora_weights"} | {"rank_pattern", "alpha_pattern"}:
        assert adapter_config(mine).r == 9
    else:
        with pytest.raises(NashwardError):
            adapter_config(mine)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("where", ["embeddings saved beside", "head", "embeddings"])
def test_embeddings_and_heads_are_refused_tied_or_not(
    tied: bool, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny.policy(tmp_path / "base")
    if tied:
        config = LlamaConfig.from_pretrained(source, tie_word_embeddings=True)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            LlamaForCausalLM(config).save_pretrained(source)
    plain = _trained(source, tmp_path / "plain")
    if where == "embeddings saved beside":
        mine = Path(shutil.copytree(plain, tmp_path / "mine"))
        network = PeftModel.from_pretrained(_base(source), str(plain))
        network.get_input_embeddings().weight.data += 1.0  # as resized or trained ones
        network.save_pretrained(str(mine), save_embedding_layers=True)
        assert any("embed" in name for name in load_file(mine / WEIGHTS))
    else:
        target = "lm_head" if where == "head" else "embed_tokens"
        mine = _trained(source, tmp_path / "mine", target_modules=["q_proj", target])
    loaded = LanguageModel.from_pretrained(source, plain, quantise=False)
    _refused_by_both(source, plain, mine, "embeddings or the head", monkeypatch, loaded)


TYPES: dict[str, Callable[[], Any]] = {
    "IA3": lambda: peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "PREFIX_TUNING": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3),
    "PROMPT_TUNING": lambda: peft.PromptTuningConfig(num_virtual_tokens=3),
    "P_TUNING": lambda: peft.PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=8),
    "ADALORA": lambda: peft.AdaLoraConfig(target_modules=LINEAR, total_step=10),
    "LOHA": lambda: peft.LoHaConfig(target_modules=LINEAR),
    "LOKR": lambda: peft.LoKrConfig(target_modules=LINEAR),
    "VERA": lambda: peft.VeraConfig(target_modules=["q_proj"]),
    "OFT": lambda: peft.OFTConfig(target_modules=["q_proj"], oft_block_size=4, r=0),
    "LN_TUNING": lambda: peft.LNTuningConfig(),
}


@pytest.mark.parametrize("kind", TYPES)
def test_other_types_of_peft_are_refused_by_name(
    kind: str,
    tiny_folder: Path,
    plain: Path,
    loaded: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = TYPES[kind]()
    config.task_type = "CAUSAL_LM"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_peft_model(_base(tiny_folder), config).save_pretrained(str(tmp_path / "mine"))
    _refused_by_both(tiny_folder, plain, tmp_path / "mine", kind, monkeypatch, loaded)


def _damaged(plain: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(plain, folder)
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file({name: matrix.contiguous() for name, matrix in state.items()}, folder / WEIGHTS)
    return folder


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def _drop_factor(state: dict[str, torch.Tensor]) -> None:
    del state[FIRST]


def _rename(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(state: dict[str, torch.Tensor]) -> None:
        for name in [name for name in state if old in name]:
            state[name.replace(old, new)] = state.pop(name)

    return change


def _diverged(state: dict[str, torch.Tensor]) -> None:
    state[FIRST][0, 0] = float("nan")


def _wide(state: dict[str, torch.Tensor]) -> None:
    state[FIRST] = torch.zeros(9, 65)


def _norm(state: dict[str, torch.Tensor]) -> None:
    state["base_model.model.model.norm.weight"] = torch.ones(64)


FILES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], None], str]] = {
    "one factor": (_drop_factor, "without its other factor"),
    "no tensors": (lambda state: state.clear(), "holds no weights"),
    "an adapter's name in the names": (_rename(".weight", ".default.weight"), "lora_A.default"),
    "no prefix": (_rename("base_model.model.", ""), "layers"),
    "layers that the base has not": (_rename("layers.1.", "layers.7."), "layers.7"),
    "another width": (_wide, "q_proj"),
    "a norm beside": (_norm, "norm.weight"),
}  # peft skips the first five with a warning at most, and answers with the base


@pytest.mark.parametrize(("change", "named"), FILES.values(), ids=FILES)
def test_files_that_do_not_belong_to_the_base_are_refused(
    change: Callable[[dict[str, torch.Tensor]], None],
    named: str,
    tiny_folder: Path,
    plain: Path,
    loaded: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _refused_by_both(tiny_folder, plain, _damaged(plain, tmp_path / "mine", change), named, monkeypatch, loaded)


def test_weights_that_are_not_finite_or_pickled_are_refused(tiny_folder: Path, plain: Path, tmp_path: Path) -> None:
    model = LanguageModel.from_pretrained(tiny_folder, plain, quantise=False)
    with pytest.raises(NashwardError, match=r"q_proj\.lora_A\.weight holds numbers that are not finite"):
        model.load("frozen", _damaged(plain, tmp_path / "nan", _diverged))
    pickled = Path(shutil.copytree(plain, tmp_path / "pickled"))
    torch.save(load_file(pickled / WEIGHTS), pickled / "adapter_model.bin")
    (pickled / WEIGHTS).unlink()
    with pytest.raises(NashwardError, match=r"pickled weights \(adapter_model\.bin\)"):
        adapter_config(pickled)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"r": 0}, "r is 0"), ({"r": 4.5}, "r is 4.5"), ({"r": True}, "r is True"), ({"r": "9"}, "r is '9'"),
        ({"lora_alpha": 0}, "lora_alpha is 0"), ({"lora_alpha": float("inf")}, "lora_alpha is inf"),
        ({"lora_alpha": None}, "lora_alpha is None"), ({"rank_pattern": {"q_proj": -1}}, "rank_pattern"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern"), ({"alpha_pattern": {"q_proj": "8"}}, "alpha_pattern"),
        ({"target_modules": 3}, "target_modules"), ({"exclude_modules": [1]}, "exclude_modules"),
        ({"task_type": "SEQ_CLS"}, "SEQ_CLS"), ({"peft_type": "LORA2"}, "LORA2"),
        ({"rank_pattern": {"q_proj": 3}}, "says rank 3 and holds weights of rank 9"),
        ({"target_modules": "q_proj("}, "target_modules"), ({"target_modules": ["none_such"]}, "none_such"),
        ({"target_modules": "q_proj", "layers_to_transform": [0]}, "layers_to_transform"),
    ],
)  # fmt: skip
def test_a_configuration_that_makes_no_sense_names_its_field(
    settings: dict[str, Any], named: str, tiny_folder: Path, plain: Path, tmp_path: Path
) -> None:
    mine = _edit(Path(shutil.copytree(plain, tmp_path / "mine")), **settings)
    with pytest.raises(NashwardError, match=named.replace("(", r"\(")) as refusal:
        adapter_config(mine, tiny_folder)
    assert "\n" not in str(refusal.value)


def test_in_four_bits_an_adapter_with_patterns_is_peft_s_on_the_same_base(tiny_folder: Path, tmp_path: Path) -> None:
    mine = _trained(tiny_folder, tmp_path / "mine", rank_pattern={"q_proj": 7}, alpha_pattern={"v_proj": 3})
    model = LanguageModel.from_pretrained(tiny_folder, mine)
    ours = _ours(model, mine)
    network = PeftModel.from_pretrained(LanguageModel.from_pretrained(tiny_folder).network.unload(), str(mine)).eval()
    with torch.no_grad():
        theirs = float(sequence_logprobs(network, [PROMPT], [RESPONSE], model.pad_id))
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_sums_of_adapters_keep_ranks_scales_and_layers_that_patterns_name(tiny_folder: Path, tmp_path: Path) -> None:
    """One by a regular expression with excluded layers, the other by names and of patterns: the sum is that of both."""
    first = _trained(tiny_folder, tmp_path / "a", target_modules=r".*\.(q_proj|up_proj)", layers_to_transform=None)
    second = _trained(tiny_folder, tmp_path / "b", 2, rank_pattern={"v_proj": 2}, alpha_pattern={"down_proj": 3})
    for weights in ([1.0, 0.0], [0.0, 1.0]):
        folder = tmp_path / f"sum-{weights[0]:g}"
        interpolate(list(zip((first, second), weights, strict=True)), folder)
        expected = _of_peft(tiny_folder, (first, second)[weights.index(1.0)])
        assert _of_peft(tiny_folder, folder) == pytest.approx(expected, abs=1e-5)


def test_every_member_of_a_mixture_is_checked_before_a_weight_is_read(
    tiny_folder: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = _trained(tiny_folder, tmp_path / "mine", use_dora=True)
    Mixture(((plain, 0.5), (mine, 0.5))).save(tmp_path / "mixture.json")
    (tmp_path / "p.txt").write_text("Hello")
    _without_weights(monkeypatch)
    files = ["--prompts", str(tmp_path / "p.txt"), "--policy", str(tiny_folder), "--out", str(tmp_path / "o.jsonl")]
    for adapter in (tmp_path / "mixture.json", mine):
        assert main(["answer", *files, "--adapter", str(adapter)]) == 2
        assert "use_dora" in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()
