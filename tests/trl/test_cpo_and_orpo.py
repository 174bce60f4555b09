"""What our CPO, SimPO and ORPO have in common with TRL's, and where they differ: imitation."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("trl.experimental.orpo")
from trl.experimental.cpo import CPOTrainer  # noqa: E402
from trl.experimental.orpo import ORPOTrainer  # noqa: E402

from adadpo_mini import completion_logps  # noqa: E402
from adadpo_mini.methods.registry import METHODS  # noqa: E402
from adadpo_mini.tokens.batch import TokenizedPair, make_batch  # noqa: E402
from tests.known_models import Bigram  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
BETA, GAMMA = 0.7, 0.4
EQUAL = [TokenizedPair([1, 2], [3, 4, 0], [5, 0]), TokenizedPair([2], [6, 1, 0], [4, 4, 4, 0])]
UNEQUAL = [TokenizedPair([1, 2], [3, 0], [5, 0]), TokenizedPair([2], [6, 1, 5, 4, 0], [4, 0])]


@pytest.fixture(scope="module")
def model():
    return Bigram(torch.randn(7, 7, generator=torch.Generator().manual_seed(0)))


def ours(method, model, pairs, **knobs):
    """Our loss, with (chosen log-probs, chosen lengths) of the batch."""
    batch = make_batch(pairs)
    logps = completion_logps(model, batch.input_ids, batch.completion_mask)
    chosen, rejected = logps.chunk(2)
    n_w, n_l = batch.lengths.chunk(2)
    bound = METHODS[method].bind({"beta": BETA, "simpo_beta": BETA, "gamma": GAMMA, **knobs})
    zeros = torch.zeros(len(pairs))
    loss = bound(chosen, rejected, zeros, zeros, chosen_lengths=n_w, rejected_lengths=n_l).loss
    return loss.item(), chosen, n_w


def trl(trainer, model, pairs, **options):
    """(loss of the preference, imitation) as TRL computes them from the model's scores."""
    batch = make_batch(pairs)
    ends = torch.tensor([len(p.prompt) + len(p.chosen) for p in pairs])
    ends = torch.cat([ends, torch.tensor([len(p.prompt) + len(p.rejected) for p in pairs])])
    rows = {
        "concatenated_input_ids": batch.input_ids,
        "concatenated_attention_mask": (
            torch.arange(batch.input_ids.shape[1]) < ends[:, None]
        ).long(),
        "concatenated_labels": batch.input_ids.masked_fill(batch.completion_mask == 0, -100),
        "chosen_labels": batch.input_ids[: len(pairs)],
    }
    fake = SimpleNamespace(
        concatenated_inputs=lambda batch, **_: batch, is_encoder_decoder=False, pad_token_id=0,
        padding_value=0, accelerator=SimpleNamespace(device="cpu"), aux_loss_enabled=False,
        get_batch_logps=trainer.get_batch_logps, beta=BETA, label_smoothing=0.0, alpha=0.0,
        simpo_gamma=GAMMA, cpo_alpha=1.0, loss_type="sigmoid",
    )  # fmt: skip
    vars(fake).update(options)

    def scored(input_ids, attention_mask, use_cache):
        return model(input_ids)

    chosen, rejected, *_, imitation = trainer.concatenated_forward(fake, scored, rows)
    if trainer is CPOTrainer:
        return CPOTrainer.cpo_loss(fake, chosen, rejected)[0].mean().item(), imitation.item()
    return -ORPOTrainer.odds_ratio_loss(fake, chosen, rejected)[0].mean().item(), imitation.item()


def test_simpo_is_trls(model):
    """With TRL's cpo_alpha = 0; its default of 1 adds imitation."""
    loss, _ = trl(CPOTrainer, model, UNEQUAL, loss_type="simpo")
    assert ours("simpo", model, UNEQUAL)[0] == pytest.approx(loss, rel=1e-5)


def test_cpos_contrast_is_trls_and_so_is_its_imitation_if_all_chosen_are_equally_long(model):
    for pairs in (EQUAL, UNEQUAL):
        contrast, imitation = trl(CPOTrainer, model, pairs)
        assert ours("cpo", model, pairs, nll_weight=0.0)[0] == pytest.approx(contrast, rel=1e-5)
        loss, logps, lengths = ours("cpo", model, pairs)
        assert imitation == pytest.approx((-logps.sum() / lengths.sum()).item(), rel=1e-5)
        same = loss == pytest.approx(contrast + imitation, rel=1e-5)
        assert same == (pairs is EQUAL)


def test_orpos_odds_ratio_is_trls_but_trl_imitates_the_prompt_as_well(model):
    for pairs in (EQUAL, UNEQUAL):
        contrast, imitation = trl(ORPOTrainer, model, pairs)
        assert ours("orpo", model, pairs, nll_weight=0.0)[0] == pytest.approx(contrast, rel=1e-5)
        whole = [TokenizedPair(p.prompt[:1], p.prompt[1:] + p.chosen, p.rejected) for p in pairs]
        _, logps, lengths = ours("cpo", model, whole)
        assert imitation == pytest.approx((-logps.sum() / lengths.sum()).item(), rel=1e-5)
        loss = ours("orpo", model, pairs)[0]
        assert loss != pytest.approx(contrast + imitation, rel=1e-3)
