import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.columns.codes import CodesError, FeatureCodeSet


@given(st.integers(0, 200), st.integers(0, 200))
def test_codes_number_the_business_first_and_every_feature_once(business, provider):
    codes = FeatureCodeSet(business=business, provider=provider)
    assert [*codes.codes_of(0), *codes.codes_of(1)] == list(range(business + provider)) == list(codes)
    assert len(codes.codes_of(0)) == business
    assert len(codes) == business + provider


def test_a_negative_number_of_features_is_refused():
    with pytest.raises(CodesError):
        FeatureCodeSet(business=-1, provider=2)
