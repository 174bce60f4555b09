"""The diagnoses in words and as JSON."""

import json

from adadpo_mini.doctor.diagnose import as_dict, diagnose, report
from tests.doctor.made_logs import shifts


def test_the_report_says_everything_and_also_that_there_is_nothing():
    found = {"dpo": diagnose(shifts(-12.3, -110.6)), "adadpo": []}
    text = report(found)
    (sink,) = found["dpo"]
    flowing = " ".join(text.split())
    for part in (f"dpo: {sink.what} [both_sink]", sink.evidence, sink.advice):
        assert part in flowing
    assert "adadpo: nothing to report; a rule is skipped" in text
    assert max(map(len, text.splitlines())) <= 98
    as_json = json.loads(json.dumps(as_dict(found)))
    assert as_json["adadpo"] == []
    assert as_json["dpo"][0].keys() == {"name", "what", "evidence", "advice"}
    assert as_json["dpo"][0]["evidence"] == sink.evidence
