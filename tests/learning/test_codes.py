import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.columns.codes import CodesError, FeatureCodeSet, name_own


@given(st.integers(0, 200), st.integers(0, 200))
def test_codes_number_the_business_first_and_every_feature_once(business, provider):
    codes = FeatureCodeSet(business=business, provider=provider)
    assert [*codes.business_codes, *codes.provider_codes] == list(range(business + provider)) == list(codes)
    assert [codes.owner(code) for code in codes] == ["business"] * business + ["provider"] * provider
    assert len(codes) == business + provider


@pytest.mark.parametrize("code", [-1, 5])
def test_a_code_outside_the_set_is_refused(code):
    with pytest.raises(CodesError):
        FeatureCodeSet(business=3, provider=2).owner(code)


def test_a_negative_number_of_features_is_refused():
    with pytest.raises(CodesError):
        FeatureCodeSet(business=-1, provider=2)


def test_a_party_names_its_own_codes_only():
    codes = FeatureCodeSet(business=2, provider=2)
    assert name_own(codes.provider_codes, ["age", "income"]) == {2: "age", 3: "income"}
    with pytest.raises(CodesError):
        name_own(codes.provider_codes, ["age"])
    with pytest.raises(CodesError):
        name_own(codes.provider_codes, ["age", "age"])
