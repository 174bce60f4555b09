"""The first loss of every method, on every path."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from adadpo_mini import Race, RaceConfig, completion_logps, race
from adadpo_mini.methods.registry import METHODS
from adadpo_mini.models.policies import new_policy
from adadpo_mini.models.reference import RefScores, ScoredPairs
from adadpo_mini.models.shared_prompt import shared_logps
from adadpo_mini.trainer import Trainer
from tests.invariants.shared import ALPHA, BETA, GAMMA, KNOBS, SHORT, SIMPO_BETA, take

LN_2 = torch.tensor(math.log(2)).item()  # in fp32
AT_LN_2 = (
    "dpo", "adadpo", "adadpo_policy", "adadpo_raw", "fixed_ratio", "adadpo_batch",
    "dpo_matched_norm", "weighted_dpo", "dpop",
)  # fmt: skip
IN_POLICY_SPACE = ("adadpo_policy", "ada_simpo", "ada_cpo", "ada_orpo")  # where ρ is not 1
NOTHING_LEARNED = {
    "shift/chosen": 0.0, "shift/rejected": 0.0, "rewards/chosen": 0.0, "rewards/rejected": 0.0,
    "rewards/margins": 0.0, "rewards/accuracies": 0.0,
}  # fmt: skip


def starts(batch):
    """The loss of every method where the policy is the reference, from its formula, in fp64."""
    n_w, n_l = (n.double() for n in batch.rows.lengths.chunk(2))
    log_w, log_l = batch.ref_chosen_logps.double(), batch.ref_rejected_logps.double()
    a_w, a_l = log_w / n_w, log_l / n_l  # log p
    odds_w, odds_l = (a - torch.log1p(-a.exp()) for a in (a_w, a_l))  # log odds
    r = (a_w - a_l).exp().clamp(max=2)
    r_odds = (2 * (a_w - a_l) - (odds_w - odds_l)).exp().clamp(max=2)  # p(1 − p) = p²/odds
    values = {
        "ipo": torch.full_like(a_w, (1 / (2 * BETA)) ** 2),
        "rdpo": F.softplus(-ALPHA * (n_w - n_l)),
        "simpo": F.softplus(GAMMA - SIMPO_BETA * (a_w - a_l)),
        "ada_simpo": F.softplus(GAMMA - SIMPO_BETA * (r * a_w - a_l)),
        "rpo": math.log(2) - a_w,
        "cpo": F.softplus(-BETA * (log_w - log_l)) - a_w,
        "ada_cpo": F.softplus(-BETA * (r * log_w - log_l)) - a_w,
        "orpo": BETA * F.softplus(odds_l - odds_w) - a_w,
        "ada_orpo": BETA * F.softplus(odds_l - r_odds * odds_w) - a_w,
    }
    values |= {"ada_ipo": values["ipo"], "ada_rdpo": values["rdpo"]}
    means = {name: value.mean().item() for name, value in values.items()}
    return means | dict.fromkeys(AT_LN_2, LN_2)


PATHS = {
    "plain": {},
    "shared prompts": {"logps": shared_logps},
    "in parts": {"logps": shared_logps, "pairs_at_once": 3},
    "plain in parts": {"pairs_at_once": 3},
    "checkpointing": {"checkpointing": True},
    "bfloat16": {"logps": shared_logps, "dtype": torch.bfloat16},
    "adapter": {"lora_rank": 2},
    "adapter with all": {
        "logps": shared_logps, "pairs_at_once": 3, "checkpointing": True, "lora_rank": 2,
        "dtype": torch.bfloat16,
    },
}  # fmt: skip


@pytest.mark.parametrize("known", [False, True], ids=["scored now", "scores known"])
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_every_method_starts_at_its_exact_value_and_with_u_of_zero(
    path, known, start, pairs, tmp_path, monkeypatch
):
    """ln 2 to the last bit for a sigmoid loss of β·u alone, (1/(2β))² for IPO, and so on."""
    if "lora_rank" in path:
        pytest.importorskip("peft")
    monkeypatch.setenv("ADADPO_MINI_CACHE", str(tmp_path))
    options = {"logps": completion_logps, **path}
    rank, dtype = options.pop("lora_rank", 0), options.pop("dtype", torch.float32)
    checkpointing = options.get("checkpointing", False)
    reference = copy.deepcopy(start[0]).to(dtype)
    scoring = {name: options[name] for name in ("logps", "pairs_at_once") if name in options}
    scored = ScoredPairs(reference, pairs[:4], **scoring)
    batch = scored.batch(range(4))
    if known:
        kept = RefScores(pairs[:4], reference)
        kept.save(scored.scores)
        scored = ScoredPairs(reference, pairs[:4], **scoring, known=kept.load())
        hook = reference.get_decoder().register_forward_pre_hook(
            lambda *_: pytest.fail("the reference was asked again")
        )
        batch = scored.batch(range(4))
        hook.remove()
    for name, expected in starts(batch).items():
        policy = new_policy(reference, lora_rank=rank, checkpointing=checkpointing)
        trainer = Trainer(policy, name, learning_rate=1e-3, knobs=KNOBS, **options)
        event = trainer.step(batch)
        assert event["loss"] == (LN_2 if name in AT_LN_2 else pytest.approx(expected, 1e-5)), name
        assert {key: event[key] for key in NOTHING_LEARNED} == NOTHING_LEARNED, name
        if name not in IN_POLICY_SPACE:
            assert event["ada/rho"] == (2.0 if name == "fixed_ratio" else 1.0), name
    assert starts(batch).keys() == METHODS.keys()


@pytest.mark.parametrize("settings", [
    {"methods": tuple(METHODS)},
    {"methods": ("dpo", "adadpo"), "pairs_at_once": 3, "checkpointing": True},
    {"methods": ("dpo", "adadpo"), "dtype": "bfloat16"},
    {"methods": ("dpo", "adadpo"), "lora_rank": 2},
], ids=["all methods", "in parts, checkpointing", "bfloat16", "adapter"])  # fmt: skip
def test_a_race_starts_there_on_training_and_on_held_out_pairs(settings, rows, tiny):
    if "lora_rank" in settings:
        pytest.importorskip("peft")
    config = RaceConfig(**{**SHORT, **settings}, model=str(tiny), measure_every=0)
    first = dict(take(len(config.methods), Race(config, data=rows).events()))
    assert first.keys() == set(config.methods)
    for method, event in first.items():
        assert event["step"] == 0
        for prefix in ("", "eval_"):
            found = {key: event[f"{prefix}{key}"] for key in NOTHING_LEARNED}
            assert found == NOTHING_LEARNED, method
            if method in AT_LN_2:
                assert event[f"{prefix}loss"] == LN_2, method


def test_rlhf_starts_with_no_reward_on_the_pairs_and_no_kl(rows, tiny):
    config = RaceConfig(**SHORT, methods=("rlhf",), model=str(tiny), measure_every=0)
    [(_, event)] = take(1, Race(config, data=rows).events())
    for prefix in ("", "eval_"):
        assert {key: event[f"{prefix}{key}"] for key in NOTHING_LEARNED} == NOTHING_LEARNED
    assert event["eval_loss"] == LN_2, "it is DPO's"
    assert event["rlhf/kl"] == 0.0
    assert event["loss"] == -event["rlhf/reward"], "where the KL is zero, J is the reward"


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2}, {"checkpointing": True}], ids=str)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_inside_trls_trainer_a_method_starts_there_too(settings, rows, tiny):
    pytest.importorskip("trl")
    if "lora_rank" in settings:
        pytest.importorskip("peft")

    short = {**SHORT, "steps": 1, "measure_every": 0, "model": str(tiny), **settings}
    for method, loss in (("adadpo", LN_2), ("ipo", (1 / (2 * BETA)) ** 2)):
        event = race(engine="trl", data=rows, methods=(method,), **short).events[method][0]
        for prefix in ("", "eval_"):
            assert {key: event[f"{prefix}{key}"] for key in NOTHING_LEARNED} == NOTHING_LEARNED
            assert event[f"{prefix}loss"] == pytest.approx(loss, rel=1e-6)
