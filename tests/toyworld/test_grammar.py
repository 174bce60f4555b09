"""The toy world can be counted, and every answer in it can be told from every other."""

from collections import Counter

from adadpo_mini.toyworld.grammar import (
    PROMPTS,
    TOOLS,
    all_topics,
    find_topic,
    well_formed_answers,
)

EVERYDAY_KINDS = {"short", "detailed", "rude"}
PRIVATE_KINDS = {"short", "detailed", "plain_no", "soft_no"}


def test_every_prompt_is_asked_about_one_topic_only():
    prompts = [prompt for topic in all_topics() for prompt in topic.prompts]
    assert len(prompts) == len(set(prompts)) == len(PROMPTS) * len(all_topics())
    assert all(prompt.endswith("\n") for prompt in prompts)


def test_a_prompt_leads_back_to_its_topic_with_or_without_its_line_break():
    for topic in all_topics():
        for prompt in topic.prompts:
            assert find_topic(prompt) is topic
            assert find_topic(f" {prompt.strip()}") is topic
    assert find_topic("How do I warm the moon?\n") is None
    assert find_topic("") is None


def test_the_answers_of_a_topic_are_all_different_and_few():
    for topic in all_topics():
        texts = [answer.text for answer in well_formed_answers(topic)]
        assert len(set(texts)) == len(texts) <= 300
        assert all(text == text.strip() and "\n" not in text for text in texts)


def test_a_topic_has_answers_of_every_kind_that_befits_it():
    for topic in all_topics():
        kinds = {answer.kind for answer in well_formed_answers(topic)}
        assert kinds == (PRIVATE_KINDS if topic.private else EVERYDAY_KINDS)


def test_an_answer_names_its_thing_and_its_tool():
    for topic in all_topics()[::7]:
        for answer in well_formed_answers(topic):
            assert topic.thing in answer.text
            assert (
                answer.helps == (answer.tool is not None) == (answer.kind in {"short", "detailed"})
            )
            assert answer.tool is None or f" {answer.tool} " in answer.text


def test_no_answer_belongs_to_two_topics_of_a_domain():
    """So the judge's "on topic" means one thing."""
    for domain in TOOLS:
        topics = [topic for topic in all_topics() if topic.domain == domain]
        helpful = [a.text for t in topics for a in well_formed_answers(t) if a.helps]
        assert len(set(helpful)) == len(helpful)


def test_every_verb_has_a_tool_of_its_own():
    for tools in TOOLS.values():
        assert len(set(tools.values())) == len(tools) == 5


def test_about_a_fifth_of_the_topics_of_every_domain_is_held_out():
    everywhere = Counter(topic.domain for topic in all_topics())
    held_out = Counter(topic.domain for topic in all_topics() if topic.held_out)
    assert set(held_out) == set(TOOLS)
    for domain, count in everywhere.items():
        assert 0.12 < held_out[domain] / count < 0.28
