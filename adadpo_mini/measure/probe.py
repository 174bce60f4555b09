"""A probe set: what else changes when a model is trained on one pair."""

from collections.abc import Mapping

from adadpo_mini.measure.mass import answer_logps, greedy_answer, well_formed_answers_to
from adadpo_mini.pairs.rows import Pair
from adadpo_mini.toyworld.grammar import Answer, Topic, all_topics, find_topic, well_formed_answers
from adadpo_mini.types import Model, Tokenizer


def probe_set(pair: Pair) -> dict[str, str]:
    """Return answers whose log-probs show what a step on this pair does to related answers.

    Returns:
        chosen; rejected; chosen_paraphrase and rejected_paraphrase (same kind, friendliness and
        tool, other words; missing if the toy world has none); and unrelated, the same kind of
        answer as the chosen, about another topic.

    Source: after Ren & Sutherland 2024, arXiv:2407.10490.

    Raises:
        ValueError: as in `mass_ledger`.

    >>> probe = probe_set({
    ...     "prompt": "How do I warm the spicy soup?", "rejected": "Ugh! Nobody cares about the "
    ...     "spicy soup.", "chosen": "Sure! To warm the spicy soup, use a pot and take your time."})
    >>> probe["chosen_paraphrase"]
    'Sure! To warm the spicy soup, use a pot and take your time. Good luck!'
    """
    answers = well_formed_answers_to(pair)
    probe = {side: pair[side] for side in ("chosen", "rejected")}
    for side in ("chosen", "rejected"):
        original = next(answer for answer in answers if answer.text == pair[side])
        kin = [a for a in answers if _alike(a, original) and a.text not in probe.values()]
        if kin:
            probe[f"{side}_paraphrase"] = kin[0].text
    topic = find_topic(pair["prompt"])
    chosen = next(answer for answer in answers if answer.text == pair["chosen"])
    probe["unrelated"] = _elsewhere(topic, chosen).text
    return probe


def _alike(one: Answer, other: Answer) -> bool:
    return (one.kind, one.warm, one.tool) == (other.kind, other.warm, other.tool)


def _elsewhere(topic: Topic, answer: Answer) -> Answer:
    """Return the answer at the same list index for the next topic about a different thing."""
    place = well_formed_answers(topic).index(answer)
    topics = all_topics()
    start = topics.index(topic)
    other = next(
        t
        for t in (*topics[start:], *topics[:start])
        if t.domain == topic.domain and t.thing != topic.thing
    )
    return well_formed_answers(other)[place]


def probe_logps(model: Model, tokenizer: Tokenizer, pair: Pair) -> Mapping[str, float]:
    """Return log π, in nats, of each answer of `probe_set` and of `arg_max`, the greedy answer."""
    probe = probe_set(pair)
    probe["arg_max"] = greedy_answer(model, tokenizer, pair["prompt"])
    logps = answer_logps(model, tokenizer, pair["prompt"], list(probe.values()))
    return dict(zip(probe, logps.tolist(), strict=True))
