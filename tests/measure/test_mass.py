"""Where the mass goes, held against plain loops and against distributions that are known."""

import copy

import pytest
import torch

from adadpo_mini import completion_logps, load_model, load_pairs
from adadpo_mini.measure import (
    answer_logps,
    enumerated_kl,
    mass_accounts,
    mass_ledger,
    probe_logps,
    probe_set,
    sampled_kl,
)
from adadpo_mini.tokens.batch import stack_rows, tokenize_completions
from adadpo_mini.toyworld.grammar import find_topic, well_formed_answers

PAIR = load_pairs("refusal", "test")[0]


@pytest.fixture(scope="module")
def tiny_model(tiny):
    return load_model(tiny)[0].eval().requires_grad_(False)


def moved(model, by: float):
    """A copy of the model, a little way off."""
    policy = copy.deepcopy(model).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.parameters():
        parameter += by * torch.randn(parameter.shape, generator=generator)
    return policy


def test_answer_logps_are_those_of_a_loop_over_answers_and_tokens(tiny_model, toy):
    tokenizer = toy[1]
    answers = [a.text for a in well_formed_answers(find_topic(PAIR["prompt"]))][::12]
    prompt = tokenizer(PAIR["prompt"])["input_ids"]
    for answer, logp in zip(
        answers, answer_logps(tiny_model, tokenizer, PAIR["prompt"], answers), strict=True
    ):
        ids, expected = list(prompt), 0.0
        for token in [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]:
            scores = tiny_model(torch.tensor([ids])).logits[0, -1]
            expected += scores.log_softmax(-1)[token].item()
            ids.append(token)
        assert logp.item() == pytest.approx(expected, rel=1e-4)


def test_the_ledger_counts_every_well_formed_answer_once_and_sums_to_one(toy):
    model, tokenizer = toy
    ledger = mass_ledger(model, tokenizer, PAIR)
    answers = well_formed_answers(find_topic(PAIR["prompt"]))
    one_by_one = {}
    for answer in answers:
        rows = tokenize_completions([PAIR["prompt"]], [answer.text], tokenizer)
        with torch.no_grad():
            one_by_one[answer.text] = completion_logps(model, *stack_rows(rows)).exp().item()
    assert ledger.chosen == pytest.approx(one_by_one[PAIR["chosen"]], rel=1e-3)
    assert ledger.rejected == pytest.approx(one_by_one[PAIR["rejected"]], rel=1e-3)
    total = sum(one_by_one.values())
    assert 0.5 < total < 1, "the base model answers well-formed for the most part"
    accounts = (ledger.chosen, ledger.rejected, ledger.well_formed, ledger.elsewhere)
    assert sum(accounts) == pytest.approx(1) and min(accounts) >= 0
    assert ledger.elsewhere == pytest.approx(1 - total, abs=1e-4)
    assert sum(ledger.by_kind.values()) == pytest.approx(total, abs=1e-4)
    refusals = sum(mass for text, mass in one_by_one.items() if text.startswith("No, "))
    assert ledger.by_kind["plain_no"] == pytest.approx(refusals, rel=1e-3)
    assert ledger.most_likely_mass >= max(one_by_one.values()) * (1 - 1e-3)
    expected = {"chosen": ledger.chosen, "rejected": ledger.rejected}
    expected |= {"well_formed": ledger.well_formed, "else": ledger.elsewhere}
    assert mass_accounts(model, tokenizer, PAIR) == pytest.approx(expected)


def test_a_model_that_babbles_has_its_mass_elsewhere_and_its_arg_max_too(tiny_model, toy):
    ledger = mass_ledger(tiny_model, toy[1], PAIR)
    assert ledger.elsewhere > 0.99
    well_formed = {a.text for a in well_formed_answers(find_topic(PAIR["prompt"]))}
    assert ledger.most_likely in well_formed or ledger.most_likely_mass > ledger.chosen


def test_a_pair_that_is_not_the_toy_worlds_is_refused(toy):
    for pair, word in (
        ({"prompt": "Why?", "chosen": "a", "rejected": "b"}, "not a prompt"),
        ({**PAIR, "rejected": "Blah."}, "rejected is not"),
    ):
        with pytest.raises(ValueError, match=word):
            mass_ledger(*toy, pair)


def test_enumerated_kl_is_that_of_the_categorical_distributions():
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.rand(7, generator=generator).double() for _ in range(2))
    p, q = p / p.sum(), q / q.sum()
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(p), torch.distributions.Categorical(q)
    ).item()
    assert enumerated_kl(p.log(), q.log()) == pytest.approx(expected)
    # Six of the seven listed, the seventh being the rest: the same distributions, the same KL.
    assert enumerated_kl(p[:6].log(), q[:6].log()) == pytest.approx(expected)
    # Three of them listed: never more than the whole.
    assert 0 < enumerated_kl(p[:3].log(), q[:3].log()) < expected


def test_sampled_kl_agrees_with_the_plain_estimate_and_is_zero_for_the_reference(toy):
    reference, tokenizer = toy
    prompts = [pair["prompt"] for pair in load_pairs("tone", "test")[:96]]
    ids, end = tokenizer(prompts)["input_ids"], tokenizer.eos_token_id
    assert sampled_kl(reference, reference, ids[:4], end).kl == 0.0
    policy = moved(reference, 0.02)
    estimate = sampled_kl(policy, reference, ids, end)

    from adadpo_mini.models.generate import sample_answers

    answers = sample_answers(policy, tokenizer, prompts, temperature=1.0, seed=9, max_new_tokens=80)
    rows = stack_rows(tokenize_completions(prompts, answers, tokenizer))
    with torch.no_grad():
        plain = completion_logps(policy, *rows) - completion_logps(reference, *rows)
    spread = (plain.std().item() ** 2 / len(plain) + estimate.standard_error**2) ** 0.5
    assert estimate.kl > 5 * estimate.standard_error
    assert abs(plain.mean().item() - estimate.kl) < 4 * spread
    assert estimate.standard_error < plain.std().item() / len(plain) ** 0.5
    assert 5 < estimate.length < 80


def test_kl_is_the_same_however_many_answers_are_compared_at_a_time(toy, monkeypatch):
    from adadpo_mini.measure import kl as mass

    reference, tokenizer = toy
    ids = tokenizer([pair["prompt"] for pair in load_pairs("tone", "test")[:8]])["input_ids"]
    policy, end = moved(reference, 0.02), tokenizer.eos_token_id
    whole = sampled_kl(policy, reference, ids, end)
    monkeypatch.setattr(mass, "NUMBERS_AT_ONCE", 1)
    alone = sampled_kl(policy, reference, ids, end)
    assert alone.kl == pytest.approx(whole.kl, rel=1e-4) and alone.length == whole.length


def test_a_prompt_that_nearly_fills_the_context_leaves_room_for_what_there_is(toy):
    reference, tokenizer = toy
    prompt = tokenizer("How do I warm the soup? " * 60)["input_ids"][:250]
    found = sampled_kl(moved(reference, 0.02), reference, [prompt], tokenizer.eos_token_id)
    assert 1 <= found.length <= 6 and found.kl > 0


def test_the_probe_set_holds_kin_of_both_sides_and_a_stranger():
    for name in ("tone", "refusal"):
        for pair in load_pairs(name, "test")[:20]:
            probe = probe_set(pair)
            assert set(probe) == {
                "chosen", "rejected", "chosen_paraphrase", "rejected_paraphrase", "unrelated",
            }  # fmt: skip
            assert len(set(probe.values())) == 5
            here = {a.text: a for a in well_formed_answers(find_topic(pair["prompt"]))}
            for side in ("chosen", "rejected"):
                mine, kin = here[probe[side]], here[probe[f"{side}_paraphrase"]]
                assert (mine.kind, mine.warm, mine.tool) == (kin.kind, kin.warm, kin.tool)
            assert probe["unrelated"] not in here


def test_probe_logps_add_the_greedy_answer_and_score_each_text(toy):
    model, tokenizer = toy
    logps = probe_logps(model, tokenizer, PAIR)
    probe = probe_set(PAIR)
    assert set(logps) == {*probe, "arg_max"}
    expected = answer_logps(model, tokenizer, PAIR["prompt"], [probe["unrelated"]]).item()
    assert logps["unrelated"] == pytest.approx(expected, abs=1e-3)
    assert logps["arg_max"] >= logps["unrelated"] and logps["arg_max"] >= logps["rejected"] - 1.0
