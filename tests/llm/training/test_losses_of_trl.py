"""The field's losses against TRL's own code."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor

from nashward.llm.training import losses

# What TRL 1.16.0 makes of these log-probabilities, with beta = 0.4 and texts of 4 tokens
BETA, TOKENS = 0.4, 4
CHOSEN, REJECTED = (-3.0, -7.5, -2.0), (-4.0, -6.0, -9.0)
REFERENCE = ((-3.5, -7.0, -5.0), (-3.0, -6.5, -8.5))
MARGIN = 0.3
TRL = {
    "sigmoid": 0.5236402153968811, "ipo": 1.0520833730697632, "sppo_hard": 3.4583332538604736,
    "simpo": 0.6616833209991455, "kto": 0.43691542744636536,
}  # fmt: skip


def _trl_dpo(kind: str) -> float:
    """The loss that TRL's DPOTrainer computes, with a model that returns these log-probabilities."""
    rows = torch.tensor([*CHOSEN, *REJECTED])
    tokens = (rows / TOKENS)[:, None].expand(-1, TOKENS)
    mask = torch.ones(len(rows), TOKENS + 1, dtype=torch.long)
    mask[:, 0] = 0
    trainer = MagicMock(
        loss_types=[kind], loss_weights=[1.0], beta=BETA, f_divergence_type="reverse_kl", label_smoothing=0.0,
        ld_alpha=None, precompute_ref_logps=True, aux_loss_enabled=False, use_weighting=False,
    )  # fmt: skip
    trainer.accelerator.device = torch.device("cpu")
    trainer.accelerator.gather_for_metrics = lambda x: x
    inputs = {
        "input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask,
        "ref_chosen_logps": torch.tensor(REFERENCE[0]), "ref_rejected_logps": torch.tensor(REFERENCE[1]),
    }  # fmt: skip
    model = MagicMock(training=False)
    output = model.return_value
    output.log_probs = output.entropy = output.mean_logits = tokens
    output.is_top1 = torch.ones_like(tokens, dtype=torch.bool)
    return float(pytest.importorskip("trl").DPOTrainer._compute_loss(trainer, model, inputs, False))


def _trl_simpo() -> float:
    trainer = MagicMock(alpha=0.0, loss_type="simpo", simpo_gamma=BETA * MARGIN, beta=BETA, label_smoothing=0.0)
    trainer.accelerator.device = torch.device("cpu")
    means = (torch.tensor(row) / TOKENS for row in (CHOSEN, REJECTED))
    return float(pytest.importorskip("trl.experimental.cpo").CPOTrainer.cpo_loss(trainer, *means)[0].mean())


def _trl_kto() -> float:
    """The chosen are desirable, the rejected not; the divergence is that of the same texts."""
    rows, reference = torch.tensor([*CHOSEN, *REJECTED]), torch.tensor([*REFERENCE[0], *REFERENCE[1]])
    mask = torch.ones(len(rows), TOKENS + 1, dtype=torch.long)
    mask[:, 0] = 0
    trainer = MagicMock(
        loss_type="kto", beta=BETA, calculate_KL=True, precompute_ref_logps=True, aux_loss_enabled=False,
        desirable_weight=1.0, undesirable_weight=1.0,
    )  # fmt: skip
    trainer.accelerator.device = torch.device("cpu")
    trainer.accelerator.gather_for_metrics = lambda x: x
    trainer._compute_kl_logps = lambda *given: rows
    batch = {
        "label": torch.tensor([True] * 3 + [False] * 3), "input_ids": torch.zeros_like(mask), "completion_mask": mask,
        "attention_mask": torch.ones_like(mask), "ref_logps": reference, "ref_KL_logps": reference - 1.0,
    }  # fmt: skip
    model = MagicMock(training=False)
    output = model.return_value
    output.log_probs = output.entropy = output.mean_logits = (rows / TOKENS)[:, None].expand(-1, TOKENS)
    return float(pytest.importorskip("trl").KTOTrainer._compute_loss(trainer, model, batch, False))


def _ours() -> dict[str, Tensor]:
    (chosen, rejected), (reference, other) = torch.tensor([CHOSEN, REJECTED]), torch.tensor(REFERENCE)
    a, b, size = chosen - reference, rejected - other, 1 / BETA
    divergence = (torch.cat([a, b]) + 1.0).mean().clamp_min(0.0)
    desirable = torch.tensor([1.0] * 3 + [0.0] * 3)
    return {
        "sigmoid": losses.dpo(a, b, size),
        "ipo": losses.ipo(a / TOKENS, b / TOKENS, size),  # TRL takes means a token
        "sppo_hard": 2 * losses.sppo_pair(a, b, 1.0, size),
        "simpo": losses.simpo(chosen / TOKENS, rejected / TOKENS, size, MARGIN),
        "kto": losses.kto(torch.cat([a, b]), desirable, divergence, size),
    }


def test_values_are_those_recorded_of_trl() -> None:
    assert {name: float(value.mean()) for name, value in _ours().items()} == pytest.approx(TRL, rel=1e-6)


def test_values_are_those_of_trl_itself() -> None:
    pytest.importorskip("trl")
    theirs = {kind: _trl_dpo(kind) for kind in ("sigmoid", "ipo", "sppo_hard")}
    theirs |= {"simpo": _trl_simpo(), "kto": _trl_kto()}
    assert {name: float(value.mean()) for name, value in _ours().items()} == pytest.approx(theirs, rel=1e-6)
