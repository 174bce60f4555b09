"""The relatives of DPO: their formulas, their balance, and agreement with TRL's code."""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from adadpo_mini.losses import dpo_loss
from adadpo_mini.methods.registry import ALL_METHODS, METHODS, methods_table
from tests.test_losses import gradients, random_lengths, random_logps

# Each Ada form with the plain loss it comes from, and the probability that both sides push on.
# "x": exp(u) at one token a completion; "p": the per-token probability of the policy.
ADA_FORMS = {
    "adadpo": ("dpo", "x", {}),
    "adadpo_raw": ("dpo", "x", {}),
    "adadpo_policy": ("dpo", "p", {}),
    "ada_ipo": ("ipo", "x", {}),
    "ada_rdpo": ("rdpo", "x", {}),
    "ada_simpo": ("simpo", "p", {}),
    "ada_cpo": ("cpo", "p", {"nll_weight": 0.0}),
    "ada_orpo": ("orpo", "p", {"nll_weight": 0.0}),
}
PER_TOKEN = ("ada_simpo", "ada_orpo")  # balanced whatever the lengths are


def compute(name, logps, lengths, **knobs):
    """Return the loss of a method; knobs that it does not have are left out."""
    method = METHODS[name]
    given = {**lengths, **knobs, **method.fixed}
    return method.loss(*logps, **{k: v for k, v in given.items() if k in method.parameters})


def forces(name, space, lengths, **knobs):
    """(|∂L/∂p_w|, |∂L/∂p_l|) by autograd, for the probability p that `space` names."""
    logps = [t.detach() / 10 for t in random_logps()]
    offsets = logps[2:] if space == "x" else [torch.zeros_like(t) for t in logps[2:]]
    n_w, n_l = lengths["chosen_lengths"], lengths["rejected_lengths"]
    logs = [logp - offset for logp, offset in zip(logps[:2], offsets, strict=True)]
    p_w, p_l = ((log / n).exp().requires_grad_() for log, n in zip(logs, (n_w, n_l), strict=True))
    policy = (n_w * p_w.log() + offsets[0], n_l * p_l.log() + offsets[1])
    loss = compute(name, (*policy, *logps[2:]), lengths, ceiling=1e9, **knobs)
    force_w, force_l = torch.autograd.grad(loss.per_pair.sum(), (p_w, p_l))
    return force_w.abs(), force_l.abs(), loss.rho


ONE_TOKEN = {name: torch.ones(6) for name in ("chosen_lengths", "rejected_lengths")}


@pytest.mark.parametrize("name", ADA_FORMS)
@pytest.mark.parametrize("k", [1.0, 2.5])
def test_an_ada_form_pushes_equally_hard_on_both_probabilities(name, k):
    _, space, knobs = ADA_FORMS[name]
    force_w, force_l, _ = forces(name, space, ONE_TOKEN, k=k, **knobs)
    torch.testing.assert_close(force_w, k * force_l)
    if name in PER_TOKEN:
        force_w, force_l, _ = forces(name, space, random_lengths(), k=k, **knobs)
        torch.testing.assert_close(force_w, k * force_l)


@pytest.mark.parametrize("name", ADA_FORMS)
def test_the_plain_form_pushes_the_rejected_harder_by_rho(name):
    plain, space, knobs = ADA_FORMS[name]
    rho = forces(name, space, ONE_TOKEN, **knobs)[2]
    force_w, force_l, _ = forces(plain, space, ONE_TOKEN, **knobs)
    torch.testing.assert_close(force_l, rho * force_w)
    assert not torch.allclose(force_l, force_w), "these pairs should not be balanced by chance"


@pytest.mark.parametrize("name", ADA_FORMS)
def test_an_ada_form_with_ceiling_and_floor_one_is_its_plain_form(name):
    logps, lengths = random_logps(), random_lengths()
    ada = compute(name, logps, lengths, beta=0.3, ceiling=1.0, floor=1.0)
    plain = compute(ADA_FORMS[name][0], logps, lengths, beta=0.3)
    torch.testing.assert_close(ada.per_pair, plain.per_pair)
    for mine, theirs in zip(gradients(ada, logps), gradients(plain, logps), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("name", ADA_FORMS)
def test_the_coefficient_carries_no_gradient(name):
    """Floor and ceiling pin it to the value it has; the gradient stays the same."""
    logps, lengths = random_logps(), random_lengths()
    result = compute(name, logps, lengths, ceiling=1.5)
    ratios = (result.beta_chosen / result.beta_rejected).tolist()
    assert len(set(ratios)) > 2
    for i, ratio in enumerate(ratios):
        pair = [t[i : i + 1] for t in logps]
        of_pair = {side: length[i : i + 1] for side, length in lengths.items()}
        as_a_number = compute(name, pair, of_pair, ceiling=ratio, floor=ratio)
        mine = torch.autograd.grad(result.per_pair[i], logps[:2], retain_graph=True)
        theirs = torch.autograd.grad(as_a_number.loss, logps[:2])
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other)


def test_weighting_the_whole_loss_leaves_the_balance_as_it_was():
    lengths = {name: 3 * ones for name, ones in ONE_TOKEN.items()}
    wrong_w, wrong_l, _ = forces("weighted_dpo", "x", lengths)
    dpo_w, dpo_l, _ = forces("dpo", "x", lengths)
    torch.testing.assert_close(wrong_w / wrong_l, dpo_w / dpo_l)
    assert not torch.allclose(wrong_w, dpo_w)


def test_the_losses_are_their_formulas_computed_pair_by_pair():
    logps, lengths = random_logps(), random_lengths()
    got = {
        name: compute(name, logps, lengths, beta=0.3, alpha=0.02, gamma=0.4, penalty=5.0)
        for name in ("ipo", "rdpo", "dpop", "simpo", "cpo", "orpo")
    }

    def log_sigmoid(value):
        return -math.log1p(math.exp(-value))

    for i in range(6):
        log_w, log_l, ref_w, ref_l = (t[i].item() for t in logps)
        n_w, n_l = (lengths[name][i].item() for name in lengths)
        u_w, u_l = log_w - ref_w, log_l - ref_l
        p_w, p_l = math.exp(log_w / n_w), math.exp(log_l / n_l)
        odds_w, odds_l = p_w / (1 - p_w), p_l / (1 - p_l)
        expected = {
            "ipo": (u_w - u_l - 1 / 0.6) ** 2,
            "rdpo": -log_sigmoid(0.3 * (u_w - u_l) + 0.02 * (n_w - n_l)),
            "dpop": -log_sigmoid(0.3 * (u_w - u_l - 5.0 * max(0.0, -u_w))),
            "simpo": -log_sigmoid(0.3 * (math.log(p_w) - math.log(p_l)) - 0.4),
            "cpo": -log_sigmoid(0.3 * (log_w - log_l)) - math.log(p_w),
            "orpo": -math.log(p_w) - 0.3 * log_sigmoid(math.log(odds_w / odds_l)),
        }
        for name, value in expected.items():
            assert got[name].per_pair[i].item() == pytest.approx(value), name


def test_the_ada_forms_are_their_formulas_computed_pair_by_pair():
    """With completions of unequal length, of which some meet the ceiling and some do not."""
    logps, lengths, beta, ceiling = random_logps(), random_lengths(), 0.3, 1.05
    knobs = {"beta": beta, "alpha": 0.02, "gamma": 0.4, "ceiling": ceiling}
    got = {name: compute(name, logps, lengths, **knobs) for name in (*ADA_FORMS, "weighted_dpo")}

    def softplus(value):
        return math.log1p(math.exp(value))

    at_ceiling = dict.fromkeys(got, 0)
    for i in range(6):
        log_w, log_l, ref_w, ref_l = (t[i].item() for t in logps)
        n_w, n_l = (lengths[name][i].item() for name in lengths)
        u_w, u_l, a_w, a_l = log_w - ref_w, log_l - ref_l, log_w / n_w, log_l / n_l
        p_w, p_l = math.exp(a_w), math.exp(a_l)
        odds_w, odds_l = (math.log(p / (1 - p)) for p in (p_w, p_l))
        x, p = math.exp(u_w / n_w - u_l / n_l), p_w / p_l
        rho = dict.fromkeys(("adadpo", "ada_ipo", "ada_rdpo", "weighted_dpo"), x)
        rho |= dict.fromkeys(("adadpo_policy", "ada_simpo", "ada_cpo"), p)
        rho["adadpo_raw"] = math.exp(u_w - u_l)
        rho["ada_orpo"] = p * (1 - p_w) / (1 - p_l)
        r = {name: min(value, ceiling) for name, value in rho.items()}
        expected = {
            name: softplus(-beta * (r[name] * u_w - u_l))
            for name in ("adadpo", "adadpo_raw", "adadpo_policy")
        }
        expected |= {
            "ada_ipo": (r["ada_ipo"] * u_w - u_l - 1 / (2 * beta)) ** 2,
            "ada_rdpo": softplus(-beta * (r["ada_rdpo"] * u_w - u_l) - 0.02 * (n_w - n_l)),
            "ada_simpo": softplus(0.4 - beta * (r["ada_simpo"] * a_w - a_l)),
            "ada_cpo": softplus(-beta * (r["ada_cpo"] * log_w - log_l)) - a_w,
            "ada_orpo": beta * softplus(odds_l - r["ada_orpo"] * odds_w) - a_w,
            "weighted_dpo": r["weighted_dpo"] * softplus(-beta * (u_w - u_l)),
        }
        for name, result in got.items():
            at_ceiling[name] += rho[name] > ceiling
            assert result.rho[i].item() == pytest.approx(rho[name]), name
            assert result.per_pair[i].item() == pytest.approx(expected[name]), name
    assert all(0 < count < 6 for count in at_ceiling.values())


def test_dpop_weighs_the_chosen_by_one_plus_lambda_below_the_reference_and_is_dpo_above():
    logps = random_logps()
    result = compute("dpop", logps, {}, beta=0.3, penalty=5.0)
    below = logps[0] < logps[2]
    assert below.any() and not below.all()
    weight = torch.where(below, 6.0, 1.0).double()
    torch.testing.assert_close(result.beta_chosen, 0.3 * weight)
    dpo = dpo_loss(*logps, beta=0.3)
    torch.testing.assert_close(result.per_pair[~below], dpo.per_pair[~below])


@pytest.mark.parametrize("name", ["orpo", "ada_orpo"])
def test_certain_and_hopeless_answers_give_finite_losses_and_gradients(name):
    logps = [torch.tensor([0.0, -9e3, -1e-8]).requires_grad_() for _ in range(2)]
    zeros, ones = torch.zeros(3), torch.ones(3)
    lengths = {"chosen_lengths": ones, "rejected_lengths": ones}
    loss = compute(name, (*logps, zeros, zeros), lengths)
    loss.loss.backward()
    assert torch.isfinite(loss.per_pair).all()
    assert all(torch.isfinite(logp.grad).all() for logp in logps)


RAW = {"length_normalize": False}
OF_ADADPO = [{}, RAW, {"space": "policy"}, {"space": "policy", **RAW}, {"per_token": True}]


def half_logps(dtype, which):
    """Log-probs from 0.01 to 60 nats, those in `which` in this half precision; lengths in it, too.

    A difference of two such numbers, one much larger than the other, needs more than a half."""
    generator = torch.Generator().manual_seed(5)
    logps = [-(10 ** (3.8 * torch.rand(64, generator=generator) - 2)) for _ in range(4)]
    logps = [t.to(dtype) if i in which else t for i, t in enumerate(logps)]
    lengths = {name: n.repeat(11)[:64] for name, n in random_lengths().items()}
    return logps, {name: n.to(dtype) for name, n in lengths.items()}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("which", [range(4), (0, 1), (2, 3)], ids=["all", "policy", "reference"])
def test_half_precision_log_probs_lose_nothing_on_the_way_to_the_loss(name, dtype, which):
    """Against fp64 on the same numbers: a logarithm is off by a few of fp32's last bits at 60."""
    logps, lengths = half_logps(dtype, which)
    exact = [t.double() for t in logps]
    for knobs in OF_ADADPO:
        if not knobs.keys() <= METHODS[name].parameters:
            continue
        knobs = {**knobs, "ceiling": 1e9}
        half, double = (compute(name, each, lengths, **knobs) for each in (logps, exact))
        assert double.per_pair.dtype == torch.float64
        for of in ("rho", "beta_chosen", "beta_rejected", "per_pair", "chosen_rewards"):
            mine, theirs = getattr(half, of), getattr(double, of)
            assert mine.dtype == torch.float32, of
            torch.testing.assert_close(mine.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float16], ids=str)
def test_the_type_of_the_lengths_does_not_matter(dtype):
    """A short length minus a long one is negative, which uint8 cannot hold."""
    logps, lengths = random_logps(), random_lengths()
    others = {name: n.to(dtype) for name, n in lengths.items()}
    assert (lengths["chosen_lengths"] < lengths["rejected_lengths"]).any()
    for name in METHODS:
        mine, theirs = (compute(name, logps, each).per_pair for each in (others, lengths))
        assert torch.equal(mine, theirs), name


@pytest.mark.parametrize("name", METHODS)
def test_a_beta_that_is_not_positive_is_named(name):
    with pytest.raises(ValueError, match="beta"):
        compute(name, random_logps(), random_lengths(), beta=-1.0)


def test_the_table_has_a_row_a_method():
    rows = methods_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == list(METHODS)
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)
    assert set(ALL_METHODS) - set(METHODS) == {"rlhf"}


# TRL's own code, fed with our random log-probs.


@pytest.fixture(scope="module")
def trl_dpo(tiny, tmp_path_factory):
    """A function (loss type, β, log-probs, lengths) → TRL's loss."""
    pytest.importorskip("trl")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    config = DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")), per_device_train_batch_size=2, max_steps=1,
        report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no",
    )  # fmt: skip
    row = {"prompt": "Why?", "chosen": "Yes.", "rejected": "No."}
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny), args=config,
        ref_model=AutoModelForCausalLM.from_pretrained(tiny),
        processing_class=AutoTokenizer.from_pretrained(tiny, pad_token="<|pad|>"),
        train_dataset=Dataset.from_list([row, row]),
    )  # fmt: skip

    def loss(kind, beta, logps, lengths):
        counts = torch.cat(list(lengths.values()))
        mask = (torch.arange(int(counts.max()) + 1) <= counts[:, None]).long()
        mask[:, 0] = 0

        def answers_with(sums):  # one token carries a completion's whole log-prob
            spread = torch.zeros(len(counts), mask.shape[1] - 1, dtype=sums.dtype)
            spread = torch.cat([sums[:, None], spread[:, 1:]], dim=1)
            rest = dict.fromkeys(("entropy", "mean_logits"), spread.detach())
            top = torch.zeros_like(spread, dtype=torch.bool)
            return lambda **_: SimpleNamespace(log_probs=spread, is_top1=top, **rest)

        policy, reference = torch.cat(logps[:2]), torch.cat(logps[2:])
        trainer.loss_types, trainer.loss_weights, trainer.beta = [kind], [1.0], beta
        trainer.ref_model = answers_with(reference)
        inputs = {"input_ids": mask, "attention_mask": mask, "completion_mask": mask}
        return trainer.compute_loss(answers_with(policy), inputs, return_outputs=False)

    return loss


def assert_same(ours, theirs, logps, **tolerance):
    torch.testing.assert_close(ours.loss, theirs, **tolerance)
    expected = torch.autograd.grad(theirs, logps[:2])
    for mine, other in zip(gradients(ours, logps), expected, strict=True):
        torch.testing.assert_close(mine, other, **tolerance)


@pytest.mark.parametrize(("name", "kind", "knobs"), [
    ("dpo", "sigmoid", {}), ("ipo", "ipo", {"per_token": True}),
])  # fmt: skip
def test_loss_and_gradients_equal_trls_dpo_trainer(name, kind, knobs, trl_dpo):
    logps, lengths = random_logps(), random_lengths()
    theirs = trl_dpo(kind, 0.3, logps, lengths)
    assert theirs.dtype == torch.float64
    assert_same(compute(name, logps, lengths, beta=0.3, **knobs), theirs, logps)


@pytest.mark.parametrize("name", ["cpo", "simpo"])
def test_loss_and_gradients_equal_trls_cpo_trainer(name):
    cpo = pytest.importorskip("trl.experimental.cpo")
    logps, lengths = random_logps(), random_lengths()
    trainer = SimpleNamespace(
        alpha=0.0, beta=0.3, simpo_gamma=0.4, label_smoothing=0.0,
        loss_type={"cpo": "sigmoid", "simpo": "simpo"}[name],
        accelerator=SimpleNamespace(device="cpu"), _metrics=defaultdict(list),
    )  # fmt: skip
    counts = lengths.values() if name == "simpo" else [torch.ones(6)] * 2
    scores = [logp / n for logp, n in zip(logps[:2], counts, strict=True)]
    theirs = cpo.CPOTrainer.cpo_loss(trainer, *scores)[0].mean()
    ours = compute(name, logps, lengths, beta=0.3, gamma=0.4, nll_weight=0.0)
    assert_same(ours, theirs, logps)


def test_loss_and_gradients_equal_trls_orpo_trainer():
    """To single precision, to which TRL rounds the log-probs it is given."""
    orpo = pytest.importorskip("trl.experimental.orpo")
    logps, lengths = random_logps(), random_lengths()
    trainer = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device="cpu"))
    means = [logp / n for logp, n in zip(logps[:2], lengths.values(), strict=True)]
    reward = orpo.ORPOTrainer.odds_ratio_loss(trainer, *means)[0]
    theirs = -reward.double().mean()
    ours = compute("orpo", logps, lengths, beta=0.3, nll_weight=0.0)
    assert_same(ours, theirs, logps, rtol=1e-5, atol=1e-6)
