"""Answers: greedy against transformers' own, seeds, ends, long and odd prompts."""

import copy
from itertools import pairwise

import pytest
import torch

from adadpo_mini.models.generate import (
    sample_answers,
    sample_ids,
    sample_tokens,
    stream_answers,
)
from adadpo_mini.models.load import context_length
from adadpo_mini.toyworld.grammar import all_topics

TOPICS = [topic for topic in all_topics() if topic.held_out][::50]
PROMPTS = [topic.prompts[0] for topic in TOPICS]


def last(models, tokenizer, prompt, **settings):
    """The final answers of a stream."""
    return list(stream_answers(models, tokenizer, prompt, **settings))[-1]


@torch.no_grad()
def test_temperature_zero_is_transformers_greedy_search(toy):
    model, tokenizer = toy
    for prompt in PROMPTS[:3]:
        prompt_ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        theirs = model.generate(prompt_ids, do_sample=False, max_new_tokens=60)
        text = tokenizer.decode(theirs[0, prompt_ids.shape[1] :], skip_special_tokens=True)
        assert len(text) > 10
        assert last({"toy": model}, tokenizer, prompt, temperature=0) == {"toy": text}
        assert sample_answers(model, tokenizer, [prompt], temperature=0) == [text]


def test_sampled_tokens_follow_the_softmax_at_a_temperature(tiny):
    """Two thousand draws of one token, against the model's own distribution."""
    from adadpo_mini import load_model

    model, _ = load_model(tiny)
    prompt_ids = torch.tensor([[7, 8, 9]])
    with torch.no_grad():
        probabilities = (model(prompt_ids).logits[0, -1] / 0.5).softmax(-1)
    draws = sample_tokens(
        model,
        prompt_ids.expand(2000, -1),
        temperature=0.5,
        generator=torch.Generator().manual_seed(0),
    )
    likeliest = int(probabilities.argmax())
    p = probabilities[likeliest].item()
    assert 0.02 < p < 0.98, "the example should have something to sample"
    share = (next(draws) == likeliest).float().mean().item()
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / 2000) ** 0.5)


def test_equal_models_with_one_seed_answer_alike_and_another_seed_otherwise(toy):
    model, tokenizer = toy
    models = {"one": model, "two": copy.deepcopy(model)}
    answers = {}
    for seed in (0, 1):
        for prompt in PROMPTS[:3]:
            pair = last(models, tokenizer, prompt, seed=seed)
            assert pair["one"] == pair["two"] != ""
            answers.setdefault(seed, []).append(pair["one"])
    assert answers[0] != answers[1]
    assert [last({"one": model}, tokenizer, p, seed=0)["one"] for p in PROMPTS[:3]] == answers[0]


def test_a_streamed_answer_grows_to_the_answer_sampled_in_bulk(toy):
    model, tokenizer = toy
    for seed, prompt in enumerate(PROMPTS[:3]):
        stream = [
            answers["toy"]
            for answers in stream_answers({"toy": model}, tokenizer, prompt, seed=seed)
        ]
        assert all(later.startswith(sooner) for sooner, later in pairwise(stream))
        assert len(set(stream)) > 5
        assert sample_answers(model, tokenizer, [prompt], seed=seed) == [stream[-1]]


def test_prompts_of_several_lengths_are_answered_in_their_order(toy):
    model, tokenizer = toy
    prompts = [PROMPTS[0], "I want to warm the spicy soup. Any advice?\n", PROMPTS[0], PROMPTS[1]]
    assert len({len(tokenizer(prompt)["input_ids"]) for prompt in prompts}) > 1
    together = sample_answers(model, tokenizer, prompts, temperature=0)
    alone = [sample_answers(model, tokenizer, [prompt], temperature=0)[0] for prompt in prompts]
    assert together == alone


def test_at_a_temperature_an_answer_depends_on_the_prompts_of_its_own_length_alone(toy):
    """Each length is a batch with noise from the same seed, whatever other prompts there are."""
    model, tokenizer = toy
    other = "I want to warm the spicy soup. Any advice?\n"
    assert len(tokenizer(other)["input_ids"]) != len(tokenizer(PROMPTS[0])["input_ids"])
    alone = sample_answers(model, tokenizer, PROMPTS[:1], seed=3, temperature=1.5)
    assert (
        sample_answers(model, tokenizer, [other, PROMPTS[0]], seed=3, temperature=1.5)[1:] == alone
    )


def test_sampled_ids_end_with_the_end_token_unless_they_were_cut_off(toy):
    model, tokenizer = toy
    end = tokenizer.eos_token_id
    ids = tokenizer(PROMPTS)["input_ids"]
    whole = sample_ids(model, ids, end, temperature=1.0, seed=0, max_new_tokens=100)
    assert all(answer[-1] == end and end not in answer[:-1] for answer in whole)
    cut = sample_ids(model, ids, end, temperature=1.0, seed=0, max_new_tokens=3)
    assert cut == [answer[:3] for answer in whole]


@pytest.mark.parametrize("temperature", [1e-7, 1e-40])
def test_a_tiny_temperature_acts_like_zero_and_never_overflows(toy, temperature):
    model, tokenizer = toy
    cold, coldest = (
        sample_answers(model, tokenizer, PROMPTS[:2], temperature=t, max_new_tokens=8)
        for t in (temperature, 0)
    )
    assert cold == coldest


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_sampling_from_a_model_that_predicts_nan_is_an_error(tiny, temperature):
    from adadpo_mini import load_model

    model, tokenizer = load_model(tiny)
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="diverged; lower the learning rate"):
        sample_answers(model, tokenizer, PROMPTS[:1], temperature=temperature)


def test_no_prompts_give_no_answers(toy):
    assert sample_answers(*toy, []) == []


def test_an_answer_ends_at_the_end_token_or_after_max_new_tokens(toy):
    model, tokenizer = toy
    rounds = list(stream_answers({"toy": model}, tokenizer, PROMPTS[0], temperature=0))
    assert len(rounds) < 60 and rounds[-1]["toy"].endswith((".", "!"))
    assert "<|" not in rounds[-1]["toy"]
    cut = list(
        stream_answers({"toy": model}, tokenizer, PROMPTS[0], temperature=0, max_new_tokens=4)
    )
    assert len(cut) == 4
    assert len(tokenizer(cut[-1]["toy"])["input_ids"]) == 4
    assert rounds[-1]["toy"].startswith(cut[-1]["toy"])
    assert sample_answers(model, tokenizer, PROMPTS[:1], temperature=0, max_new_tokens=4) == [
        cut[-1]["toy"]
    ]


def test_a_model_that_has_finished_waits_while_the_other_goes_on(toy, tiny):
    from adadpo_mini import load_model

    model, tokenizer = toy
    models = {"toy": model, "random": load_model(tiny)[0]}
    rounds = list(stream_answers(models, tokenizer, PROMPTS[0], temperature=0, max_new_tokens=50))
    alone = last({"toy": model}, tokenizer, PROMPTS[0], temperature=0)
    assert len(rounds) == 50
    assert rounds[-1]["toy"] == rounds[-5]["toy"] == alone["toy"]
    assert rounds[-1]["random"] != rounds[-5]["random"]


def test_a_prompt_far_longer_than_the_context_is_still_answered(toy):
    model, tokenizer = toy
    prompt = 100 * "How do I warm the spicy soup? " + "\n" + PROMPTS[0]
    assert len(tokenizer(prompt)["input_ids"]) > 3 * context_length(model)
    assert last({"toy": model}, tokenizer, prompt, temperature=0)["toy"]
    all_room = last({"toy": model}, tokenizer, prompt, max_new_tokens=1000)
    assert all_room["toy"]


def test_of_a_prompt_too_long_the_end_is_kept(toy):
    model, tokenizer = toy
    rose, soup = (
        f"How do I {topic}?\n" for topic in ("water the tall rose", "warm the spicy soup")
    )

    def answer(prompt):
        return last({"toy": model}, tokenizer, prompt, temperature=0, max_new_tokens=30)["toy"]

    assert answer(30 * rose + 30 * soup) == answer(30 * soup) != answer(30 * rose)


def test_a_prompt_that_fills_the_context_leaves_no_room_to_go_beyond_it(tiny):
    from adadpo_mini import load_model

    model, _ = load_model(tiny)
    stream = sample_tokens(
        model, torch.full((1, 253), 9), temperature=1.0, generator=torch.Generator().manual_seed(0)
    )
    assert len(list(stream)) == 3


@pytest.mark.parametrize(
    "prompt", ["Wie wärme ich die Suppe? 🍲", "如何加热汤？", "مرحبا", "", " \n "]
)
def test_any_prompt_is_answered(toy, prompt):
    model, tokenizer = toy
    assert isinstance(last({"toy": model}, tokenizer, prompt, max_new_tokens=20)["toy"], str)


def test_half_a_character_is_never_shown_at_the_end(tiny):
    """An untrained model writes random bytes, so many characters are unfinished."""
    from adadpo_mini import load_model

    model, tokenizer = load_model(tiny)
    unfinished = 0
    for seed in range(3):
        tokens = sample_tokens(
            model, torch.tensor([tokenizer("🙂\n")["input_ids"]]), temperature=1.5,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        ids = [token.item() for token, _ in zip(tokens, range(60), strict=False)]
        unfinished += sum(tokenizer.decode(ids[:n]).endswith("\ufffd") for n in range(1, 61))
        for answers in stream_answers(
            {"tiny": model}, tokenizer, "🙂", temperature=1.5, seed=seed, max_new_tokens=60
        ):
            assert not answers["tiny"].endswith("\ufffd")
    assert unfinished > 0, "the example should have something to hide"
