"""Whoever looks up a reason code finds it."""

import re

from tests.documents.blocks import ROOT
from tests.documents.reasons import codes

PAGE = ROOT / "docs" / "troubleshooting.md"


def test_every_reason_code_of_the_source_is_on_the_page_of_symptoms():
    found = codes()
    assert len(found) > 150
    assert {"bad_signature", "rows_too_few", "label_constant", "partner_refused", "worker_died"} <= found.keys()
    explained = set(re.findall(r"`([a-z0-9_]+)`", PAGE.read_text()))
    assert {code: place for code, place in found.items() if code not in explained} == {}


def test_the_page_of_symptoms_explains_no_reason_code_that_is_gone():
    text = PAGE.read_text()
    explained = set(re.findall(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`", text[text.index("## Then: the reason code") :]))
    words = {"small_sample", "expires_in_hours", "whole_model"}
    assert explained - codes().keys() - words == set()
