"""`warren bench paillier` at tiny sizes: every field that docs/performance.md promises, and ratios that add up."""

import json

import pytest

from bench.kernels import kernel_state
from bench.paillier import RANDOMNESS, measure, operations, own_calls
from bench.paillier_peers import HEU_SCHEMAS, Sizes, draws, phe_calls
from bench.tables import to_markdown
from paillier.choice import select
from paillier.keys import InvalidKeyError, generate

SIZES = Sizes(
    batch=8, vectors=3, terms=2, rows=8, columns=2, slots=3, packs=2, bin_rows=8, bin_columns=2, bins=3, slow=2, quick=8
)
WANTED = {
    "encrypt": 180,
    "decrypt": 5,
    "add": 15,
    "power_sum_16": 40,
    "power_sum_73": 30,
    "rerandomise": 20,
    "x25519": 4,
}
WITHOUT_PHE = {"prove", "verify", "owner_tables", "guest_tables", "check", "product_n", "product_p", "x25519"}


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def report(told):
    return measure(bits=512, seconds=0.0, sizes=SIZES, say=told.append)


@pytest.fixture(scope="module")
def values(report):
    return json.loads(json.dumps(report.to_json()))


def test_the_json_has_every_promised_field(values):
    assert values.keys() == {
        "benchmark", "bits", "seconds", "machine", "versions", "kernel", "columns", "rows"
    }  # fmt: skip
    assert (values["benchmark"], values["bits"], values["seconds"]) == ("paillier", 512, 0.0)
    assert values["machine"].keys() == {"processor", "architecture", "cores", "bound_to_core", "system"}
    assert values["kernel"].keys() == {"path", "paths", "reason"}
    for column in values["columns"]:
        assert column.keys() == {"key", "title", "version", "peer", "threads", "note", "absent"}
    for row in values["rows"]:
        assert row.keys() == {
            "operation", "section", "title", "per", "statistic", "rounds", "figures", "ratios", "wanted", "met"
        }  # fmt: skip
        for figure in row["figures"].values():
            assert figure.keys() == {"microseconds", "fastest", "median", "batch", "call"}
            assert 0 < figure["fastest"] <= figure["median"]
            assert figure["batch"] >= 1
            assert figure["call"]


def test_every_operation_is_announced_and_timed_by_gmpy2_and_by_phe_where_phe_has_it(values, told):
    rows = {row["operation"]: row for row in values["rows"]}
    assert list(rows) == [operation.key for operation in operations(SIZES)]
    assert told[1:] == [row["title"] for row in values["rows"]]
    assert {key for key, row in rows.items() if "gmpy2" not in row["figures"]} == {"x25519"}
    assert {key for key, row in rows.items() if "phe" not in row["figures"]} == WITHOUT_PHE
    assert "cryptography" in rows["x25519"]["figures"]


def test_every_column_is_measured_or_says_why_not(values):
    assert [column["key"] for column in values["columns"]] == ["compiled", "gmpy2", "phe", *HEU_SCHEMAS, "cryptography"]
    measured = {key for row in values["rows"] for key in row["figures"]}
    for column in values["columns"]:
        assert (column["key"] in measured) == (column["absent"] == "")
        assert column["absent"] or (column["version"] and column["threads"] >= 1)


def test_the_compiled_back_end_is_a_column_as_soon_as_there_is_a_kernel(values):
    compiled = values["columns"][0]
    assert values["kernel"] == json.loads(json.dumps(kernel_state()))
    assert values["kernel"]["path"] is not None or compiled["absent"]
    assert compiled["absent"] or compiled["note"] == f"path {values['kernel']['path']}"


def test_ratios_are_those_of_the_figures_beside_them(values):
    compared = 0
    for row in values["rows"]:
        for own, peers in row["ratios"].items():
            for peer, ratio in peers.items():
                quotient = row["figures"][peer]["microseconds"] / row["figures"][own]["microseconds"]
                assert ratio["ratio"] == pytest.approx(quotient)
                assert ratio["median"] > 0
                compared += 1
    assert compared >= 13


def test_what_is_wanted_is_named_and_not_judged_below_2048_bits(values):
    assert {row["operation"]: row["wanted"] for row in values["rows"] if row["wanted"] is not None} == WANTED
    assert {row["met"] for row in values["rows"]} == {None}


def test_the_markdown_has_whole_tables_a_dash_for_what_is_missing_and_all_versions(report):
    text = to_markdown(report)
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 3
    for lines in tables:
        assert len({line.count("|") for line in lines}) == 1
    encrypt = next(line for line in text.splitlines() if line.startswith("| encrypt"))
    assert "180" in encrypt
    check = next(line for line in text.splitlines() if line.startswith("| check"))
    assert "| - |" in check
    for column in report.columns:
        assert (column.absent or f"{column.title}: {column.version}, {column.threads} thread") in text


def test_a_length_that_no_key_has_is_refused():
    with pytest.raises(InvalidKeyError):
        measure(bits=100, seconds=0.0, sizes=SIZES)


def test_phe_is_timed_doing_what_our_own_column_does():
    private = generate(512, RANDOMNESS.stream("test"), insecure=True)
    own, other = own_calls(select("gmpy2"), private, SIZES), phe_calls(private, SIZES)
    decryptor = select("gmpy2").owner(private, None)
    values, key = draws(SIZES.batch, 24), private.to_phe()
    assert [key.decrypt(number) for number in other["encrypt"].work()] == values[: SIZES.slow]
    assert decryptor.decrypt(own["encrypt"].work()) == values
    assert other["decrypt"].work() == own["decrypt"].work()[: SIZES.slow] == values[: SIZES.slow]
    assert [key.decrypt(number) for number in other["add_plain"].work()] == [value + 12345 for value in values]
    assert [key.decrypt(number) for number in other["invert"].work()] == [-value for value in values]
    for bits, name in ((16, "power_sum_16"), (73, "power_sum_73")):
        total = sum(value * factor for value, factor in zip(values, draws(SIZES.quick, bits), strict=True))
        assert key.decrypt(other[name].work()) == values[0] + total
        factors, entries = draws(SIZES.rows, bits), (draws(64, 24) * 2)[: SIZES.rows * SIZES.columns]
        sums = [sum(f * v for f, v in zip(factors, entries[j :: SIZES.columns], strict=True)) for j in (0, 1)]
        assert decryptor.decrypt(own[name].work()) == sums
