# %% [markdown]
# # Start here: DPO against AdaDPO
#
# In the next five minutes you train a small language model twice on the same preferences: once
# with **DPO** and once with **AdaDPO** (self-adaptive DPO). You predict the result, watch the
# training, and then look for the reason.
#
# Run the cells from top to bottom with Shift+Enter. Everything runs on this machine.

# %%
import math
import os
import textwrap

import torch

from adadpo_mini import adadpo_loss, completion_logps, dpo_loss, load_model, load_pairs, race
from adadpo_mini.figures import LABELS, LiveTrajectories
from adadpo_mini.models.generate import sample_answers
from adadpo_mini.models.load import context_length
from adadpo_mini.tokens.batch import make_batch, tokenize_pairs
from adadpo_mini.toyworld.judge import judge

STEPS = 6 if os.environ.get("ADADPO_FAST") == "1" else 120  # the tests run a very short race
print(f"Ready for a race of {STEPS} steps.")

# %% [markdown]
# ## 1. What a preference pair is
#
# A preference pair is a prompt with two answers. Somebody preferred one of them: it is called
# *chosen*, and the other *rejected*. Here is a pair from the toy set `tone`.

# %%
pairs = load_pairs("tone")
pair = pairs[0]
for field in ("prompt", "chosen", "rejected"):
    print(f"{field:10}{pair[field].strip()}")

# %% [markdown]
# The chosen answer is friendly and helps. The rejected answer is rude.
#
# How likely are the two for our model? The probability of an answer is a product with one factor
# per token, so it quickly becomes small. We use its logarithm, the **log-prob**, in nats. Zero nats
# means certainty; the more negative, the less likely.

# %%
reference, tokenizer = load_model()  # a small GPT-2 that comes with this package
batch = make_batch(tokenize_pairs(pairs[:1], tokenizer, context_length(reference)))
with torch.no_grad():
    logps = completion_logps(reference, batch.input_ids, batch.completion_mask).tolist()

for side, logp in zip(("chosen", "rejected"), logps, strict=True):
    print(f"{side:10}log-prob {logp:6.2f} nats = log of the probability {math.exp(logp):.6f}")
print(f"The chosen is {math.exp(logps[0] - logps[1]):.2f} times as likely as the rejected.")

# %% [markdown]
# ## 2. Your prediction
#
# Training should make the model prefer the chosen answer, so it should widen the gap between the
# two log-probs. One question remains.
#
# **After training with DPO, has the log-prob of the chosen answers risen, stayed or fallen?** We
# measure it on held-out pairs, about things that no training text mentions.
#
# Decide before you read on, and write your answer here.

# %%
my_prediction = "rise"  # "rise", "stay" or "fall"

assert my_prediction in ("rise", "stay", "fall"), "my_prediction must be rise, stay or fall"
print(f"Noted. You expect the chosen answers' log-prob to {my_prediction}.")

# %% [markdown]
# ## 3. The race
#
# Two copies of the model now train on the same pairs in the same order. This takes a minute or two,
# and the figure grows as it runs. Each line is the mean change in log-prob since the start: the
# difference from the untrained model, which is called the *reference*. **Solid lines are the chosen
# answers, dashed lines the rejected ones.**
#
# The settings are the defaults of `race`, and of the dashboard and the command line.

# %%
settings = {"data": "tone", "steps": STEPS, "learning_rate": 1e-4, "beta": 1.0, "seed": 0}

live = LiveTrajectories(["dpo", "adadpo"], steps=STEPS)
result = race(**settings, methods=["dpo", "adadpo"], on_event=live.on_event)

end = result.summary["methods"]["dpo"]
print(f"Race {result.summary['status']} after {end['steps']} steps, {end['seconds']:.0f} seconds.")

# %% [markdown]
# ## 4. Look
#
# First look only at the solid lines: do they end above or below zero, and where did they turn? The
# dashed lines go far down, so zoom in: drag over the solid ones, and double-click to zoom out. Then
# look at the gap between the solid and the dashed line of each colour. The next cell prints where
# the lines end, and the highest point of the chosen. A change of −1 nat makes an answer e⁻¹ times
# as likely, so we print that factor too.


# %%
def report(result):
    """Print where a race's lines end."""
    for method, row in result.summary["methods"].items():
        print(f"{LABELS[method]} after {row['steps']} steps, mean over held-out pairs")
        for side in ("chosen", "rejected"):
            shift = row[f"delta_{side}"]
            print(f"    {side:9}{shift:+7.2f} nats, {math.exp(shift):.2g} times as likely")
        evaluated = [event for event in result.events[method] if "eval_loss" in event]
        peak = max(evaluated, key=lambda event: event["eval_shift/chosen"])
        print(f"    the chosen peaked at {peak['eval_shift/chosen']:+.2f}, step {peak['step']}")
        print(f"    accuracy {row['accuracy']:7.0%} of the pairs have the chosen ahead")


report(result)

# %% [markdown]
# Were you right? A change of less than half a nat counts as "stay". And did you expect the turn?


# %%
def direction(method):
    shift = result.summary["methods"][method]["delta_chosen"]
    return "stay" if abs(shift) < 0.5 else "rise" if shift > 0 else "fall"


outcome = direction("dpo")
print(f"Your prediction for DPO's chosen answers: {my_prediction}")
print(f"What they did in this race:               {outcome}")
print("You were right." if my_prediction == outcome else "It turned out differently.")
print(f"AdaDPO's chosen answers, for comparison:  {direction('adadpo')}")

# %% [markdown]
# The accuracy does not show this. It only asks whether the chosen answer has gained on the rejected
# one. It can be perfect when both rise, when both fall, and when they move apart.
#
# ## 5. Why: two forces
#
# Take one pair and look at the loss alone. Let `x_w` be how many times as likely the chosen answer
# has become, and `x_l` the same for the rejected one. At the start both are 1. DPO's loss is
#
# $$L = -\log \sigma(\beta \log x_w - \beta \log x_l).$$
#
# Its gradient is the force that pushes `x_w` up and `x_l` down. Autograd computes it for us.

# %%
x_w, x_l = 1.2, 0.8  # the chosen is now a bit more likely, the rejected a bit less
origin = torch.zeros(1)  # log x is the change against the reference, so the reference is at 0
one_token = {"chosen_lengths": torch.ones(1), "rejected_lengths": torch.ones(1)}
LOSSES = {"DPO": (dpo_loss, {}), "AdaDPO": (adadpo_loss, one_token)}


def forces(name, log_space=False):
    """Return how hard a loss pushes the chosen up and the rejected down, in x or in log x."""
    loss, lengths = LOSSES[name]
    start = torch.tensor([[x_w], [x_l]])
    chosen, rejected = (start.log() if log_space else start).requires_grad_()
    u_w, u_l = (chosen, rejected) if log_space else (chosen.log(), rejected.log())
    pull = loss(u_w, u_l, origin, origin, **lengths).loss
    up, down = torch.autograd.grad(pull, (chosen, rejected))
    return -up.item(), down.item()


print(f"x_w / x_l = {x_w / x_l:.2f}")
for name in LOSSES:
    up, down = forces(name)
    print(f"{name:6} chosen up {up:.4f}, rejected down {down:.4f}: {down / up:.2f} times as hard")

# %% [markdown]
# DPO pushes the rejected down `x_w / x_l` times as hard as it pushes the chosen up. The further
# apart they are, the more of the force goes to the rejected. **AdaDPO multiplies the chosen side by
# the same factor**, and the two forces become equal. (In training, x is computed per token. The two
# forces are then equal for answers of equal length; otherwise they differ by the ratio of the
# lengths. And the factor has a ceiling: above it the forces differ again, but less than in DPO.)
#
# This is about probabilities. Here are the same two losses with log x as the coordinate:

# %%
for name in LOSSES:
    up, down = forces(name, log_space=True)
    print(f"{name:6} chosen up {up:.4f}, rejected down {down:.4f}: {down / up:.2f} times as hard")

# %% [markdown]
# In these coordinates DPO is the balanced one. "Balance" depends on the coordinates, so it cannot
# fully explain why chosen answers fall or do not fall. The missing part is what the two answers
# **share**.
#
# Let us train only one or two numbers. In the first case each log-prob has its own weight. In the
# second there is a single weight: it moves the chosen log-prob, and the rejected one twice as much.


# %%
def train(name, log_probs, steps=200):
    """Train two weights with a loss; return the final log-probs, which both start at 0."""
    loss, lengths = LOSSES[name]
    weights = torch.zeros(2, 1, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=1.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(*log_probs(weights), origin, origin, **lengths).loss.backward()
        optimizer.step()
    return [u.item() for u in log_probs(weights)]


def own_weights(weights):
    return weights[0], weights[1]


def shared_weight(weights):
    return weights[0], 2 * weights[0]


for log_probs in (own_weights, shared_weight):
    for name in LOSSES:
        u_w, u_l = train(name, log_probs)
        print(f"{log_probs.__name__:14}{name:7} chosen {u_w:+6.2f}, rejected {u_l:+6.2f}")

# %% [markdown]
# With its own weight the chosen log-prob rises. If the two share no weights, the chosen never falls.
# With the shared weight, the only way to widen the gap is down, and the chosen answer falls too.
# AdaDPO's heavier chosen side slows this fall, but it does not reverse it.
#
# In a language model all answers share all weights. How far the chosen answer falls with the
# rejected one, and how much the heavier chosen side helps, depends on the pairs. AdaDPO does not
# guarantee that the chosen answer rises.
#
# ## 6. Read the answers
#
# Log-probs are not text, so we ask all three models the first held-out prompt. They sample with
# the same seed.
#
# In the toy world the judge is exact: it has a list of all answers to a prompt, good and bad, and
# looks the answer up. Help scores 1, a friendly first word 1 more, and the right tool 1 more.
# Rudeness scores 0, and anything that is not an answer to the prompt scores −1. The judge also
# names the kind of answer; `short` and `detailed` answers help.

# %%
SAMPLING_SEED = 0  # another seed gives other answers
prompt = load_pairs(settings["data"], split="test")[0]["prompt"]
models = {"reference": result.reference}
models |= {LABELS[method]: model for method, model in result.models.items()}

print(f"Prompt: {prompt}")
verdicts = {}
for name, model in models.items():
    [answer] = sample_answers(model, tokenizer, [prompt], seed=SAMPLING_SEED)
    verdicts[name] = verdict = judge(prompt, answer)
    print(f"{name}, judged {verdict.reward} ({verdict.kind or 'not an answer to this prompt'}):")
    print(textwrap.indent(answer, "    ") + "\n")

best = max(verdict.reward for verdict in verdicts.values())
winners = [name for name, verdict in verdicts.items() if verdict.reward == best]
print(f"The best of the three verdicts is {best}, for: {', '.join(winners)}.")

# %% [markdown]
# One answer is one throw of the dice. The win rate is a better measure: on several held-out
# prompts, how often does the judge prefer the trained model's answer to the reference's? A tie
# counts half.
#
# It depends on the temperature T at which both models sample. At 0.7, as above, a model's rare
# mistakes become rarer still. At 1 it samples from π itself, the distribution that the log-probs
# describe.

# %%
for method, row in result.summary["methods"].items():
    if row["win_rate"] is not None:  # unknown if you stopped the race
        at_1 = f"{row['win_rate_at_1']:.0%} at T = 1"
        print(f"{LABELS[method]:7}win rate: {row['win_rate']:.0%} at T = 0.7, {at_1}")

# %% [markdown]
# ## 7. Is it the adapting, or just a heavier chosen side?
#
# AdaDPO does two things at once: it gives the chosen side more weight, and it adapts that weight to
# each pair at each step. If the two methods differ above, either can be the reason.
#
# The control is `fixed_ratio`: one constant weight for all pairs and all steps. For a fair
# comparison it must be the same dose, so its constant is the mean of the weights that AdaDPO used.
# What it achieves is not due to adapting. The next cell prints the weights. Its last lines run the
# control, with the same settings and therefore the same batches; `match_ratio` first trains AdaDPO
# once more, to measure the mean.

# %%
last = result.events["adadpo"][-1]
print(f"AdaDPO's weight on the chosen side, mean over the last batch: {last['ada/rho']:.2f}")
print(f"Share of pairs where it is at its ceiling: {last['ada/ceiling_share']:.0%}")

run_control = False  # True runs a race of the control alone
if run_control:
    report(race(**settings, methods=["fixed_ratio"], match_ratio=True))

# %% [markdown]
# Compare its chosen answers with the two above. One race with one seed proves little. The project's
# folder `data/results` has the same comparison on several sets with several seeds, and with more
# controls: one weight per batch, a larger dose, and DPO with a likelihood term.
#
# ## In short
#
# - DPO widens the gap between chosen and rejected. It does not care where either of them is.
# - In probability space it pushes the rejected harder, and more so as the gap grows. AdaDPO
#   compensates with a coefficient, up to a ceiling.
# - Whether the chosen falls depends on what the two answers share. AdaDPO can slow the fall or
#   reverse it; it guarantees neither.
# - Accuracy shows none of this. Look at the log-probs, and read some answers.
#
# ## Try next
#
# Change one thing in the `settings` of section 3, make a prediction, and run the cells from there:
#
# - a gentler `"learning_rate"` of `3e-5` with a `"beta"` of `0.1`: DPO gets better for half of the
#   race and then breaks (the preset `arc`); `2e-4` with `0.1` breaks it at once (`too_hard`);
# - `"beta"` alone, in both directions: β ties the model to the reference, and `data/results/beta.md`
#   has what it did with several seeds;
# - other pairs as `"data"`: `"near_duplicate"` (only the first word differs), `"swap"` (one object
#   differs; in no setting of ours DPO did well on it), `"length_bias"`, `"noisy_labels"`,
#   `"refusal"`;
# - another `"seed"`;
# - the path of a file with your own pairs as `"data"` (the judge knows only the toy sets, so skip
#   section 6).
#
# Or use the same settings on the dashboard: `adadpo-mini app`.
