"""The mass ledger and the probe set, against plain loops and known distributions."""

import copy

import pytest
import torch

from adadpo_mini import completion_logps, load_model, load_pairs
from adadpo_mini.measure import (
    LONGEST_ANSWER,
    answer_logps,
    mass_accounts,
    mass_ledger,
    probe_logps,
    probe_set,
)
from adadpo_mini.tokens.batch import stack_rows, tokenize_completions
from adadpo_mini.toyworld.grammar import all_topics, find_topic, well_formed_answers
from tests.known_models import Parrot

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


def test_a_model_that_babbles_has_its_mass_elsewhere(tiny_model, toy):
    ledger = mass_ledger(tiny_model, toy[1], PAIR)
    assert ledger.elsewhere > 0.99 and ledger.most_likely_mass < 0.01


BLUFF = "I cannot say."


@pytest.mark.parametrize("likelier", [BLUFF, PAIR["rejected"]])
def test_the_most_likely_answer_is_the_greedy_one_or_a_well_formed_one(likelier, toy):
    tokenizer = toy[1]
    shares = dict.fromkeys((BLUFF, PAIR["chosen"], PAIR["rejected"]), 0.2) | {likelier: 0.5}
    ledger = mass_ledger(Parrot(tokenizer, shares), tokenizer, PAIR)
    assert (ledger.most_likely, ledger.most_likely_mass) == (likelier, pytest.approx(0.5, abs=1e-3))
    assert ledger.chosen == pytest.approx(0.2, abs=1e-3)
    assert ledger.rejected == pytest.approx(shares[PAIR["rejected"]], abs=1e-3)
    assert ledger.elsewhere == pytest.approx(shares[BLUFF] + 0.1, abs=2e-3)


def test_a_likely_well_formed_answer_is_found_where_the_greedy_one_leads_nowhere(toy):
    """After the likeliest first token, every continuation is equally unlikely."""
    tokenizer = toy[1]
    beginning = tokenizer.decode(tokenizer(BLUFF)["input_ids"][:1])
    model = Parrot(tokenizer, {PAIR["chosen"]: 0.4, beginning: 0.5})
    model.texts.pop()  # after that beginning all tokens are equally likely
    ledger = mass_ledger(model, tokenizer, PAIR)
    assert ledger.most_likely == PAIR["chosen"]
    assert ledger.most_likely_mass == pytest.approx(0.4, abs=1e-3)


def test_no_well_formed_answer_is_longer_than_what_is_sampled_for_it(toy):
    topics = list(all_topics())[::97]
    answers = {answer.text for topic in topics for answer in well_formed_answers(topic)}
    longest = max(len(ids) + 1 for ids in toy[1](list(answers))["input_ids"])
    assert longest <= LONGEST_ANSWER


def test_a_pair_that_is_not_the_toy_worlds_is_refused(toy):
    for pair, word in (
        ({"prompt": "Why?", "chosen": "a", "rejected": "b"}, "not a prompt"),
        ({**PAIR, "rejected": "Blah."}, "rejected is not"),
    ):
        with pytest.raises(ValueError, match=word):
            mass_ledger(*toy, pair)


def test_the_probe_set_has_a_paraphrase_of_each_side_and_an_unrelated_answer():
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


@pytest.mark.parametrize("name", ["tone", "refusal", "length_bias"])
def test_the_unrelated_answer_is_of_the_same_kind_about_another_thing_of_the_same_domain(name):
    for pair in load_pairs(name, "test")[:20]:
        here, stranger = find_topic(pair["prompt"]), probe_set(pair)["unrelated"]
        mentioned = [topic for topic in all_topics() if f" {topic.thing}" in stranger]
        assert {topic.domain for topic in mentioned} == {here.domain}
        assert here.thing not in {topic.thing for topic in mentioned}
        kinds = {
            (answer.kind, answer.warm)
            for topic in mentioned
            for answer in well_formed_answers(topic)
            if answer.text == stranger
        }
        chosen = next(a for a in well_formed_answers(here) if a.text == pair["chosen"])
        assert kinds == {(chosen.kind, chosen.warm)}


def test_probe_logps_add_the_greedy_answer_and_score_each_text(toy):
    model, tokenizer = toy
    logps = probe_logps(model, tokenizer, PAIR)
    probe = probe_set(PAIR)
    assert set(logps) == {*probe, "arg_max"}
    expected = answer_logps(model, tokenizer, PAIR["prompt"], [probe["unrelated"]]).item()
    assert logps["unrelated"] == pytest.approx(expected, abs=1e-3)
    assert logps["arg_max"] >= logps["unrelated"] and logps["arg_max"] >= logps["rejected"] - 1.0
