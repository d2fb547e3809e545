"""Identifiers: what each schema makes of a value, what it refuses, and that no error text shows a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.identifiers import IdentifierError, normalise

COMPOSITE = "composite.v1(exact.v1,email.v1)"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50).filter(str.strip)))
def test_exact_identifiers_are_their_utf8_bytes(values):
    assert normalise(values, "exact.v1") == [value.encode() for value in values]


def test_exact_identifiers_keep_zeros_and_spaces():
    assert normalise(["007", "7", " 7", "7.0"], "exact.v1") == [b"007", b"7", b" 7", b"7.0"]


@pytest.mark.parametrize(
    "written",
    ["+49 170 1234567", "0049 170 1234567", "+49(170)123-45.67", "+491701234567", "＋４９１７０１２３４５６７"],
)
def test_one_phone_number_in_any_spelling_is_one_identifier(written):
    assert normalise([written], "phone-e164.v1") == [b"491701234567"]


@pytest.mark.parametrize(
    "written",
    ["0170 1234567", "1701234567", "+49 (0)170 1234567", "+0491701234567", "+4917", "+1234567890123456", "+49170x"],
)
def test_a_phone_number_that_could_mean_two_is_refused(written):
    with pytest.raises(IdentifierError) as refused:
        normalise([written], "phone-e164.v1")
    assert refused.value.code == "identifier_malformed"


@pytest.mark.parametrize("written", ["Jane.Doe@Example.org", " jane.doe@example.org\n", "ＪＡＮＥ.doe@example.org"])
def test_one_address_in_any_spelling_is_one_identifier(written):
    assert normalise([written], "email.v1") == [b"jane.doe@example.org"]


def test_an_address_in_composed_and_decomposed_letters_is_one_identifier():
    assert len(set(normalise(["Zo\u00eb@example.org", "ZOE\u0308@example.org"], "email.v1"))) == 1


@pytest.mark.parametrize("written", ["jane", "@example.org", "jane@", "a@b@c", "jane doe@example.org"])
def test_what_is_no_address_is_refused(written):
    with pytest.raises(IdentifierError) as refused:
        normalise([written], "email.v1")
    assert refused.value.code == "identifier_malformed"


@given(st.text(max_size=30), st.text(max_size=30))
def test_normalising_an_address_twice_changes_nothing(name, host):
    try:
        (once,) = normalise([f"{name}@{host}"], "email.v1")
    except IdentifierError:
        return
    assert normalise([once.decode()], "email.v1") == [once]


def test_fields_of_a_composite_cannot_run_into_each_other():
    one, two = normalise([("ab", "c@d"), ("a", "bc@d")], COMPOSITE)
    assert one == b"\0\0\0\x02ab\0\0\0\x03c@d"
    assert one != two


def test_each_field_of_a_composite_follows_its_own_schema():
    (item,) = normalise([("A", " X@Y ")], COMPOSITE)
    assert item == b"\0\0\0\x01A\0\0\0\x03x@y"


@pytest.mark.parametrize("value", ["a", ("a",), ("a", "b@c", "d")])
def test_another_number_of_fields_is_refused(value):
    with pytest.raises(IdentifierError) as refused:
        normalise([value], COMPOSITE)
    assert refused.value.code == "identifier_malformed"


def test_a_tuple_is_no_identifier_of_one_field():
    with pytest.raises(IdentifierError, match=r"exact\.v1"):
        normalise([("a", "b")], "exact.v1")


@pytest.mark.parametrize("schema", ["exact.v1", "phone-e164.v1", "email.v1"])
def test_empty_identifiers_are_counted_and_their_rows_named(schema):
    good = {"exact.v1": "a", "phone-e164.v1": "+491701234567", "email.v1": "a@b"}[schema]
    with pytest.raises(IdentifierError) as refused:
        normalise([good, "", good, "  "], schema)
    assert (refused.value.code, refused.value.count) == ("identifier_empty", 2)
    assert "2 of 4 identifiers are empty" in str(refused.value)
    assert "data rows 2, 4" in str(refused.value)


def test_an_empty_field_makes_a_composite_empty():
    with pytest.raises(IdentifierError, match="data rows 1") as refused:
        normalise([("a", " ")], COMPOSITE)
    assert refused.value.code == "identifier_empty"


def test_no_error_text_shows_an_identifier():
    for values, schema in ([["secret-number"] * 3, "phone-e164.v1"], [["secret-number"], "email.v1"]):
        with pytest.raises(IdentifierError) as refused:
            normalise(values, schema)
        assert "secret" not in repr(refused.value)
        assert refused.value.__cause__ is None


def test_many_refused_rows_are_counted_and_not_all_listed():
    with pytest.raises(IdentifierError, match=r"2000 of 2000 .* 1, 2, 3, 4, 5 and 1995 more"):
        normalise(["x"] * 2000, "email.v1")


def test_text_that_has_no_utf8_or_is_too_long_is_refused():
    for value in ("\ud800", "x" * 1025):
        with pytest.raises(IdentifierError) as refused:
            normalise([value], "exact.v1")
        assert refused.value.code == "identifier_malformed"
    assert len(normalise(["x" * 1024], "exact.v1")[0]) == 1024


@pytest.mark.parametrize(
    "schema",
    [
        "exact",
        "exact.v2",
        "",
        "composite.v1()",
        "composite.v1(exact.v1)",
        "composite.v1(exact.v1,nothing.v1)",
        "composite.v1(composite.v1(exact.v1,exact.v1),exact.v1)",
        f"composite.v1({','.join(['exact.v1'] * 9)})",
    ],
)
def test_an_unknown_schema_is_refused(schema):
    with pytest.raises(IdentifierError) as refused:
        normalise(["1"], schema)
    assert refused.value.code == "identifier_schema"
