"""What must hold on every path: where a method starts, and what leaves the numbers as they are."""

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

from adadpo_mini import Race, RaceConfig, completion_logps, load_model, load_pairs, race
from adadpo_mini.measure import displacement
from adadpo_mini.measure.answers import probe_prompts, win_rates
from adadpo_mini.methods.registry import METHODS
from adadpo_mini.models.generate import sample_answers
from adadpo_mini.models.policies import new_policy
from adadpo_mini.models.reference import RefScores, ScoredPairs
from adadpo_mini.models.shared_prompt import can_share_prompts, shared_logps
from adadpo_mini.tokens.batch import TokenizedPair, make_batch, tokenize_pairs
from adadpo_mini.trainer import Trainer

BETA, ALPHA, GAMMA = RaceConfig.beta, RaceConfig.alpha, RaceConfig.gamma
KNOBS = {"beta": BETA, "alpha": ALPHA, "gamma": GAMMA}
LN_2 = torch.tensor(math.log(2)).item()  # in fp32
AT_LN_2 = ("dpo", "adadpo", "adadpo_policy", "adadpo_raw", "fixed_ratio", "weighted_dpo", "dpop")
IN_POLICY_SPACE = ("adadpo_policy", "ada_simpo", "ada_cpo", "ada_orpo")  # where ρ is not 1
NOTHING_LEARNED = {
    "shift/chosen": 0.0, "shift/rejected": 0.0, "rewards/chosen": 0.0, "rewards/rejected": 0.0,
    "rewards/margins": 0.0, "rewards/accuracies": 0.0,
}  # fmt: skip
SHORT = {"steps": 3, "batch_size": 4, "eval_pairs": 4, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def start(tiny):
    """(model, tokenizer) from a folder whose configuration asks for dropout."""
    model, tokenizer = load_model(tiny)
    assert model.config.attn_pdrop > 0
    return model.eval().requires_grad_(False), tokenizer


@pytest.fixture(scope="module")
def pairs():
    """Eight pairs of random tokens; prompts and completions have 1 to 24 of them."""
    generator = torch.Generator().manual_seed(0)

    def some():
        count = int(torch.randint(1, 25, (1,), generator=generator))
        return torch.randint(2, 800, (count,), generator=generator).tolist()

    return [TokenizedPair(some(), some(), some()) for _ in range(8)]


@pytest.fixture(scope="module")
def rows():
    return list(load_pairs("swap")[:16])


# Where a method starts


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
        "simpo": F.softplus(GAMMA - BETA * (a_w - a_l)),
        "ada_simpo": F.softplus(GAMMA - BETA * (r * a_w - a_l)),
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


def take(count, items):
    return [item for _, item in zip(range(count), items, strict=False)]


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


# What is beside a row does not matter to it

# Nats a token; the largest difference seen was 1.3e-6.
OTHER_SHAPE = 1e-5
LONG = TokenizedPair([9] * 60, [*range(100, 170), 0], [*range(300, 380), 0])
LIKE_LLAMA = {
    "vocab_size": 900, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "intermediate_size": 64, "max_position_embeddings": 256,
    "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
WINDOW = "llama with a window"  # too short to read a prompt once for both completions
CONFIGS = {
    "llama": LlamaConfig(**LIKE_LLAMA),
    WINDOW: MistralConfig(**LIKE_LLAMA, sliding_window=8),
}


@pytest.fixture(scope="module")
def models(start):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        others = {
            name: AutoModelForCausalLM.from_config(config) for name, config in CONFIGS.items()
        }
    for model in others.values():
        model.eval().requires_grad_(False)
    return {"gpt2": start[0], **others}


WAYS = [
    (name, logps)
    for name in ("gpt2", *CONFIGS)
    for logps in (completion_logps, shared_logps)
    if (name, logps) != (WINDOW, shared_logps)
]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}, {way[1].__name__}")
def way(request, models):
    """(model, how it scores), the fast way where the model can do it."""
    name, logps = request.param
    return models[name], logps


def test_only_the_model_with_the_window_cannot_be_scored_the_fast_way(models, pairs):
    batch = make_batch([*pairs, LONG])
    can = {
        n: can_share_prompts(m, batch.input_ids, batch.completion_mask) for n, m in models.items()
    }
    assert can == {"gpt2": True, "llama": True, WINDOW: False}


@torch.no_grad()
def score(model, logps, pairs):
    """Log-probs of chosen and rejected, shape (2, pairs)."""
    batch = make_batch(pairs)
    return logps(model, batch.input_ids, batch.completion_mask).view(2, -1)


def lengths_of(pairs):
    return torch.tensor([[len(p.chosen) for p in pairs], [len(p.rejected) for p in pairs]])


def test_permuting_a_batch_permutes_its_log_probs_to_the_last_bit(way, pairs):
    plain = score(*way, pairs)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        order = torch.randperm(len(pairs), generator=generator)
        assert torch.equal(score(*way, [pairs[i] for i in order]), plain[:, order])


def test_other_tokens_in_the_other_rows_change_no_bit_of_a_row(way, pairs):
    plain = score(*way, pairs)

    def other(ids):
        return [token % 800 + 7 for token in ids]

    others = [TokenizedPair(other(p.prompt), other(p.chosen), other(p.rejected)) for p in pairs]
    mixed = score(*way, [*pairs[:4], *others[4:]])
    assert torch.equal(mixed[:, :4], plain[:, :4])
    assert not torch.isclose(mixed[:, 4:], plain[:, 4:], atol=1e-2).any()


def test_a_longer_mate_or_none_at_all_changes_a_row_by_rounding_only(way, pairs):
    plain, lengths = score(*way, pairs), lengths_of(pairs)
    padded = score(*way, [*pairs, LONG])[:, :-1]
    alone = torch.cat([score(*way, [pair]) for pair in pairs], dim=1)
    for found in (padded, alone):
        assert ((found - plain).abs() / lengths).max() < OTHER_SHAPE


@pytest.mark.parametrize("name", METHODS)
def test_a_pairs_loss_is_its_own_wherever_in_the_batch_it_stands(name, way, pairs):
    model, logps = way
    trainer = Trainer(moved(model), name, learning_rate=1e-3, knobs=KNOBS, logps=logps)
    scored = ScoredPairs(model, pairs, logps=logps)
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    scored.batch(range(8))

    def losses(indices):
        return trainer.compute_loss(scored.batch(indices)).loss.per_pair.detach()

    plain = losses(range(8))
    assert len(plain.unique()) == 8
    assert torch.equal(losses(order), plain[order])
    torch.testing.assert_close(losses([5, 2]), plain[[5, 2]], rtol=1e-4, atol=1e-4)


def moved(model):
    """A policy that is a little way off its reference."""
    policy = copy.deepcopy(model).requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.01 * torch.randn(weight.shape, generator=generator)
    return policy


def test_the_gradient_is_the_sum_over_pairs_however_they_are_batched(way, pairs):
    model, logps = way
    policy, scored = moved(model), ScoredPairs(model, pairs, logps=logps)
    scored.batch(range(8))
    trainer = Trainer(policy, "adadpo", learning_rate=1e-3, knobs=KNOBS, logps=logps)

    def gradient(*batches):
        policy.zero_grad()
        for indices in batches:
            trainer.compute_loss(scored.batch(indices)).loss.per_pair.sum().backward()
        return torch.cat([weight.grad.flatten() for weight in policy.parameters()])

    whole = gradient(range(8))
    for batches in ([[5, 2, 7, 0, 1, 6, 3, 4]], [range(3), range(3, 8)], [[i] for i in range(8)]):
        apart = (gradient(*batches) - whole).norm() / whole.norm()
        assert apart < 1e-5, batches  # seen: 7e-7


# What leaves training as it is


def weights(model):
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def run(contest, listen=lambda contest, method: None):
    """(events, final weights) of a race, by method; `listen` is called after every event."""
    events = {method: [] for method in contest.config.methods}
    for method, event in contest.events():
        events[method].append(event)
        listen(contest, method)
    return events, {method: weights(model) for method, model in contest.models.items()}


def training_rows(events):
    """What is measured on the batches that are trained on, without the clock."""
    apart = ("eval_", "mass/", "displacement/", "time", "own_time")
    return {
        method: [{k: v for k, v in e.items() if not k.startswith(apart)} for e in log]
        for method, log in events.items()
    }


def without_clock(events):
    clock = {"time": 0, "own_time": 0}
    return {method: [event | clock for event in log] for method, log in events.items()}


def assert_equal(some, others):
    """That weights, by method, are equal to the last bit."""
    assert some.keys() == others.keys()
    for method in some:
        for name, weight in some[method].items():
            assert torch.equal(weight, others[method][name]), (method, name)


def test_scores_that_are_known_change_neither_batches_nor_weights(
    rows, start, tmp_path, monkeypatch
):
    """A large reference's are kept on the disk; here every reference counts as large."""
    monkeypatch.setenv("ADADPO_MINI_CACHE", str(tmp_path))
    config = RaceConfig(**SHORT, methods=("dpo", "adadpo", "simpo"), measure_every=2)
    trained_on, asked, plain_step = [], [], Trainer.step

    def step(self, batch, **options):
        trained_on.append((self.method, batch.rows.input_ids.tolist()))
        return plain_step(self, batch, **options)

    monkeypatch.setattr(Trainer, "step", step)
    runs = []
    for large in (10**9, 0, 0):
        monkeypatch.setattr("adadpo_mini.prepare.SMALL", large)
        reference, tokenizer = copy.deepcopy(start[0]), start[1]
        contest = Race(config, data=rows, start=(reference, tokenizer), workers=1)
        reference.get_decoder().register_forward_hook(lambda *_: asked.append(1))
        events, final = run(contest)
        runs.append((without_clock(events), trained_on.copy(), final, len(asked)))
        trained_on.clear()
        asked.clear()
    plain, scoring, knowing = runs
    assert len(plain[1]) == 4 * 3 and plain[3] == scoring[3] == knowing[3] + 4
    for other in (scoring, knowing):
        assert other[:2] == plain[:2]
        assert_equal(other[2], plain[2])


def pry(contest, method):
    """All that one may do with a model without training it."""
    model, tokenizer = contest.models[method], contest.tokenizer
    pair = tokenize_pairs(contest.held_out[:1], tokenizer, 256)[0]
    batch = make_batch([pair])
    completion_logps(model, batch.input_ids, batch.completion_mask)
    displacement(model, pair)
    prompts = probe_prompts(contest.held_out, 2)
    sample_answers(model, tokenizer, prompts, max_new_tokens=8)
    win_rates(contest.models, contest.reference, tokenizer, prompts, 0)
    sum(weight.sum() for weight in model.state_dict().values())
    torch.rand(3)  # from the generator that all share


@pytest.mark.parametrize("settings", [
    {"methods": ("dpo", "adadpo", "rlhf")},
    {"methods": ("adadpo",), "lora_rank": 2},
    {"methods": ("adadpo",), "checkpointing": True, "pairs_at_once": 2},
], ids=["whole models", "adapter", "checkpointing"])  # fmt: skip
def test_a_listener_that_reads_measures_and_samples_changes_no_bit(settings, rows, tiny):
    if "lora_rank" in settings:
        pytest.importorskip("peft")
    config = RaceConfig(**{**SHORT, **settings}, model=str(tiny), measure_every=2)
    heard, heard_weights = run(Race(config, data=rows), pry)
    alone, alone_weights = run(Race(config, data=rows))
    assert without_clock(heard) == without_clock(alone)
    assert_equal(heard_weights, alone_weights)


SELDOM = {"measure_every": 0, "eval_every": 5}
OFTEN = ({**SELDOM, "measure_every": 1}, {**SELDOM, "eval_every": 1})


def test_how_often_is_measured_changes_no_training_row_and_no_weight(toy):
    def train(**every):
        config = RaceConfig(**SHORT, methods=("dpo", "adadpo", "rlhf"), **every)
        events, final = run(Race(config, start=toy))
        return training_rows(events), final

    rows, final = train(**SELDOM)
    for every in OFTEN:
        other_rows, other_final = train(**every)
        assert other_rows == rows
        assert_equal(other_final, final)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_how_often_is_measured_changes_nothing_in_trls_trainer_either(rows, tiny):
    pytest.importorskip("trl")

    def train(**every):
        settings = {**SHORT, "methods": ("adadpo",), "model": str(tiny), **every}
        result = race(engine="trl", data=rows, **settings)
        final = {method: weights(model) for method, model in result.models.items()}
        return training_rows(result.events), final

    training, final = train(**SELDOM)
    for every in OFTEN:
        other, other_final = train(**every)
        assert other == training
        assert_equal(other_final, final)


# What the tests themselves leave

PASSES_AND_FAILS = """
import tempfile
from pathlib import Path

def test_a(tmp_path):
    (tmp_path / "file").write_text("")

def test_b(tmp_path):
    (Path(tempfile.mkdtemp()) / "file").write_text("")
    (tmp_path / "file").write_text("")
    assert False
"""


def test_a_session_leaves_nothing_in_the_temp_folder_or_at_home(tmp_path):
    root = Path(__file__).parents[1]
    for name in ("temp", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "test_it.py").write_text(PASSES_AND_FAILS)
    own = {"TMPDIR": tmp_path / "temp", "HOME": tmp_path / "home"}
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", root / "pyproject.toml"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tmp_path / "test_it.py"],
        cwd=root, env={**os.environ, **own}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert [list((tmp_path / name).iterdir()) for name in ("temp", "home")] == [[], []]
