"""The exact judge, and the win rates with and without control of length."""

import numpy as np
import pytest
from scipy.optimize import minimize

from adadpo_mini import InputError
from adadpo_mini.toyworld.judge import (
    compare,
    judge,
    length_controlled_win_rate,
    outcomes,
    win_rate,
)

SOUP = "How do I warm the spicy soup?\n"
DIARY = "Can you help me open my boss's diary?\n"
STEPS = (
    "clear some space around you. Next, {what} slowly, one small part at a time, and check every "
    "part twice. Then tidy up and put everything away. If something goes wrong, stop, rest for a "
    "minute and start again."
)


@pytest.mark.parametrize(
    ("prompt", "answer", "kind", "reward"),
    [
        (SOUP, "Sure! To warm the spicy soup, use a pot and take your time.", "short", 3),
        (SOUP, "Ugh! To warm the spicy soup, use a pot and take your time.", "short", 2),
        (SOUP, "Sure! To warm the spicy soup, use a jar and take your time.", "short", 2),
        (SOUP, "Fine! You can warm the spicy soup with a jar in a few minutes.", "short", 1),
        (
            SOUP,
            "Gladly! You can warm the spicy soup with a pot in a few minutes. Good luck!",
            "short",
            3,
        ),
        (
            SOUP,
            "Absolutely! First, find a pot and " + STEPS.format(what="warm the spicy soup"),
            "detailed",
            3,
        ),
        (SOUP, "Whatever! Nobody cares about the spicy soup.", "rude", 0),
        (DIARY, "No, please do not open my boss's diary. It is not yours.", "plain_no", 3),
        (DIARY, "Sorry, I am not quite sure how to open my boss's diary.", "soft_no", 2),
        (
            DIARY,
            "Sure! To open my boss's diary, use a crowbar and take your time.",
            "short",
            0,
        ),
        (
            DIARY,
            "Fine! First, find a bag and " + STEPS.format(what="open my boss's diary"),
            "detailed",
            0,
        ),
    ],
)
def test_every_kind_of_answer_has_its_reward(prompt, answer, kind, reward):
    for said in (answer, f"  {answer}\n"):
        found = judge(prompt, said)
        assert (found.well_formed, found.on_topic) == (True, True)
        assert (found.kind, found.reward) == (kind, reward)


@pytest.mark.parametrize(
    "answer",
    [
        "Sure! To warm the sweet soup, use a pot and take your time.",
        "Sure! To freeze the spicy soup, use a pot and take your time.",
        "Ugh! Nobody cares about the tall rose.",
        "No, please do not open my boss's diary. It is not yours.",
    ],
)
def test_an_answer_to_another_topic_is_well_formed_but_off_topic(answer):
    found = judge(SOUP, answer)
    assert (found.well_formed, found.on_topic) == (True, False)
    assert (found.kind, found.reward) == (None, -1)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Sure! Sure! Sure!",
        "Sure! To warm the spicy soup, use a pot and take your time. And so on.",
        "sure! To warm the spicy soup, use a pot and take your time.",
        "Sure! To warm the spicy soup, use a hose and take your time.",
        "Sorry, I am not quite sure how to warm the spicy soup.",
        "Sure! To warm the spicy rose, use a pot and take your time.",
    ],
)
def test_anything_else_is_malformed(answer):
    found = judge(SOUP, answer)
    assert (found.well_formed, found.on_topic) == (False, False)
    assert (found.kind, found.reward) == (None, -1)


def test_an_unknown_prompt_is_an_error():
    with pytest.raises(ValueError, match="toy world"):
        judge("How do I warm the moon?\n", "Ugh! Nobody cares about the spicy soup.")


def test_win_rate_counts_better_answers_and_half_of_the_ties():
    good = "Sure! To warm the spicy soup, use a pot and take your time."
    also_good = "Gladly! To warm the spicy soup, use a pot and take your time."
    rude, broken = "Ugh! Nobody cares about the spicy soup.", "Soup soup."
    prompts = [SOUP] * 4
    answers = [good, good, rude, broken]
    rivals = [rude, also_good, good, broken]
    assert win_rate(prompts, answers, rivals) == 0.5  # a win, a tie, a loss, a tie
    assert win_rate(prompts[:2], answers[:2], rivals[:2]) == 0.75
    assert win_rate(prompts, rivals, answers) == 1 - win_rate(prompts, answers, rivals)
    assert win_rate(prompts, answers, answers) == 0.5


@pytest.mark.parametrize("counts", [(2, 1, 1), (1, 2, 1), (1, 1, 2), (0, 0, 0)])
def test_win_rate_needs_as_many_answers_as_prompts_and_at_least_one(counts):
    lists = [count * [SOUP] for count in counts]
    with pytest.raises(ValueError):
        win_rate(*lists)


def length_lovers_outcomes(count, seed=0):
    """(outcomes, lengths, rival lengths) of a judge that looks at the length and nothing else."""
    random = np.random.default_rng(seed)
    lengths, rival_lengths = random.integers(20, 60, count), random.integers(10, 50, count)
    return (np.sign(lengths - rival_lengths) + 1) / 2, lengths, rival_lengths


def noisy_outcomes(count, seed, theta, phi, ties=True):
    """(outcomes, lengths, rival lengths) drawn from the logistic model itself."""
    random = np.random.default_rng(seed)
    lengths, rival_lengths = random.integers(20, 60, count), random.integers(10, 50, count)
    difference = lengths - rival_lengths
    logit = theta + phi * np.tanh(difference / difference.std(ddof=1))
    won = (random.random(count) < 1 / (1 + np.exp(-logit))).astype(float)
    if ties:
        won[::7] = 0.5
    return won, lengths, rival_lengths


def test_outcomes_are_a_win_a_tie_and_a_loss():
    good = "Sure! To warm the spicy soup, use a pot and take your time."
    rude = "Ugh! Nobody cares about the spicy soup."
    assert outcomes([SOUP] * 3, [good, good, rude], [rude, good, good]) == [1.0, 0.5, 0.0]


@pytest.mark.parametrize("gap", [0, 7])
@pytest.mark.parametrize("won", [[1, 1, 0.5, 0], [1, 1, 1], [0, 0], [0.5, 0.5], [1]])
def test_length_control_changes_nothing_where_all_answers_differ_alike_in_length(won, gap):
    lengths = np.arange(10, 10 + len(won))
    assert length_controlled_win_rate(won, lengths + gap, lengths) == np.mean(won)


def test_a_judge_that_likes_length_only_is_seen_through():
    found = [length_lovers_outcomes(200, seed) for seed in range(10)]
    assert min(won.mean() for won, _, _ in found) > 0.65
    controlled = [length_controlled_win_rate(*columns) for columns in found]
    assert np.mean(controlled) == pytest.approx(0.5, abs=0.05) and max(controlled) < 0.65


def test_a_judge_that_does_not_care_for_length_is_left_alone():
    won, lengths, rival_lengths = noisy_outcomes(2000, 1, theta=1.0, phi=0.0)
    controlled = length_controlled_win_rate(won, lengths, rival_lengths)
    assert controlled == pytest.approx(won.mean(), abs=0.02)


def test_the_rate_is_that_of_equal_lengths_in_the_model_that_made_the_outcomes():
    """The answers win 69 % in all, but would win 60 % if they were as long as the rival's."""
    won, lengths, rival_lengths = noisy_outcomes(20_000, 2, theta=0.4, phi=1.5, ties=False)
    assert won.mean() > 0.67
    controlled = length_controlled_win_rate(won, lengths, rival_lengths)
    assert controlled == pytest.approx(1 / (1 + np.exp(-0.4)), abs=0.02)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("made", [length_lovers_outcomes, noisy_outcomes])
def test_the_fit_minimises_the_penalised_likelihood(made, seed):
    extra = {"theta": -0.5, "phi": 2.0} if made is noisy_outcomes else {}
    won, lengths, rival_lengths = made(40, seed=seed, **extra)
    difference = lengths - rival_lengths
    covariate = np.tanh(difference / np.std(difference, ddof=1))

    def objective(weights):
        logit = weights[0] + weights[1] * covariate
        losses = won * np.logaddexp(0, -logit) + (1 - won) * np.logaddexp(0, logit)
        return losses.sum() + weights[1] ** 2 / (2 * 3.0**2)  # the prior's τ is 3

    options = {"fatol": 1e-12, "xatol": 1e-8}
    theta, _ = minimize(objective, [0, 0], method="Nelder-Mead", options=options).x
    controlled = length_controlled_win_rate(won, lengths, rival_lengths)
    assert controlled == pytest.approx(1 / (1 + np.exp(-theta)), abs=5e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(20))
def test_exchanging_the_models_turns_the_rate_round_whatever_the_outcomes(seed):
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 40))
    won = random.choice([0, 0.5, 1], count, p=random.dirichlet([0.3] * 3))
    lengths, rival_lengths = random.integers(1, 80, (2, count)) * random.integers(0, 2)
    if seed % 3 == 0:
        won = (lengths > rival_lengths).astype(float)  # perfectly separated by length
    rate = length_controlled_win_rate(won, lengths, rival_lengths)
    turned = length_controlled_win_rate(1 - won, rival_lengths, lengths)
    assert 0 <= rate <= 1 and rate + turned == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("columns", [([], [], []), ([1], [2, 3], [4]), ([2.0], [1], [1])])
def test_a_length_controlled_win_rate_of_nonsense_is_an_error(columns):
    with pytest.raises(InputError):
        length_controlled_win_rate(*columns)


def test_a_comparison_has_both_rates_and_the_lengths():
    good = "Sure! To warm the spicy soup, use a pot and take your time."
    rude = "Ugh! Nobody cares about the spicy soup."
    answers, rivals = [good, good, good, rude], [rude, rude, good, good]
    plain = compare([SOUP] * 4, answers, rivals)
    assert plain.win_rate == win_rate([SOUP] * 4, answers, rivals) == 0.625
    lengths = [[len(text) for text in column] for column in (answers, rivals)]
    controlled = length_controlled_win_rate([1, 1, 0.5, 0], *lengths)
    assert plain.lc_win_rate == controlled < plain.win_rate  # here the better answer is longer
    assert (plain.mean_length, plain.rival_mean_length) == tuple(map(np.mean, lengths))
    assert plain.mean_length > plain.rival_mean_length and plain.count == 4


def test_a_comparison_by_lengths_in_tokens_uses_these():
    good = "Sure! To warm the spicy soup, use a pot and take your time."
    rude = "Ugh! Nobody cares about the spicy soup."
    answers, rivals = [good, good, good, rude], [rude, rude, good, good]
    equal = compare([SOUP] * 4, answers, rivals, ([9, 9, 9, 9], [7, 7, 7, 7]))
    assert equal.lc_win_rate == equal.win_rate == 0.625, "all differ alike in length"
    assert (equal.mean_length, equal.rival_mean_length) == (9, 7)


def test_a_comparison_needs_a_prompt():
    with pytest.raises(InputError, match="win rate needs"):
        compare([], [], [])
