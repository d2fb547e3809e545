"""The whole model, where the contract puts it at the business: loaded by other libraries, its scores are the same."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn_pmml_model.linear_model import PMMLLinearRegression, PMMLLogisticRegression

from messages import schemas
from protocol import state as states
from protocol.contract import encode_contract
from protocol.effects import RemoteProtocolError
from protocol.handing_over import received
from protocol.peer import Peer
from protocol.state import JobState, Phase
from services.cli import app
from services.cli.failures import BAD_INPUT, DONE, guarded
from services.models.formats import to_onnx, to_pmml
from services.models.store import ModelStore
from services.models.version import Column, ModelPartial, WholeModel, whole_of
from services.tables.table import read_table
from tests.audit.recorded import BUSINESS, COLUMNS, PROVIDER, Recorded
from tests.models.handing import train_whole
from tests.protocol.test_contract import contract


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A model that the provider handed over."""
    recorded, code = train_whole(tmp_path_factory.mktemp("whole"), allowed=True)
    assert code == ""
    return recorded


def joined(recorded: Recorded) -> tuple[WholeModel, np.ndarray, np.ndarray]:
    """(the whole model, all columns of the common rows, their scores from both halves)."""
    halves = {}
    for role in (BUSINESS, PROVIDER):
        version = ModelStore(recorded.party(role).data_directory).get(recorded.job).version
        file = recorded.paths[role].parent.parent / f"{role}.csv"
        table = read_table(file, identifier="id", columns=version.columns)
        halves[role] = (table.values, version.targets[0].scores(table.values))
    version = ModelStore(recorded.party(BUSINESS).data_directory).get(recorded.job).version
    values = np.hstack([halves[BUSINESS][0], halves[PROVIDER][0]])
    return whole_of(version), values, halves[BUSINESS][1] + halves[PROVIDER][1]


def test_the_business_holds_every_coefficient_of_the_provider(handed: Recorded) -> None:
    model, _, _ = joined(handed)
    theirs = ModelStore(handed.party(PROVIDER).data_directory).get(handed.job).version
    assert model.names == (*COLUMNS[BUSINESS], *COLUMNS[PROVIDER])
    assert [one.coefficient for one in model.columns[3:]] == list(theirs.targets[0].coefficients)
    assert [one.step for one in model.columns[3:]] == list(theirs.targets[0].scales)
    with pytest.raises(ModelPartial, match="only its own part"):
        whole_of(theirs)


def test_onnxruntime_gives_the_scores_of_both_halves(handed: Recorded) -> None:
    model, values, scores = joined(handed)
    session = onnxruntime.InferenceSession(to_onnx(model), providers=["CPUExecutionProvider"])
    found, predictions = session.run(["score", "prediction"], {"columns": values})
    assert np.allclose(found, scores, rtol=0, atol=1e-12)
    assert np.allclose(predictions, 1 / (1 + np.exp(-scores)), rtol=1e-12)
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["columns"].split("\n") == list(model.names)


def test_scikit_learn_reads_the_pmml_and_gives_the_predictions_of_both_halves(handed: Recorded, tmp_path: Path) -> None:
    model, values, scores = joined(handed)
    path = tmp_path / "model.pmml"
    path.write_bytes(to_pmml(model, "1.0"))
    loaded = PMMLLogisticRegression(pmml=str(path))
    grid = sum(abs(one.coefficient) * one.step / 2 for one in model.columns)
    found = loaded.predict_proba(values)[:, 1]
    assert np.abs(np.log(found / (1 - found)) - scores).max() < grid + 1e-9


@pytest.mark.parametrize("task", ["linear", "poisson", "gamma"])
def test_other_links_are_written_as_what_they_are(task: str, tmp_path: Path) -> None:
    columns = (Column("bank", "age", 0.25, 40.0, 0.5), Column("bureau", "age", -1.5, 0.0, 0.125))
    model = WholeModel("model-1", task, 0.75, columns)
    assert model.names == ("bank/age", "bureau/age")
    values = np.array([[40.0, 0.0], [41.5, 0.25], [39.0, -0.5]])
    score = 0.75 + values @ [0.25, -1.5]
    expected = score if task == "linear" else np.exp(score)
    session = onnxruntime.InferenceSession(to_onnx(model), providers=["CPUExecutionProvider"])
    assert np.allclose(session.run(["prediction"], {"columns": values})[0], expected, rtol=1e-12)
    path = tmp_path / "model.pmml"
    path.write_bytes(to_pmml(model, "1.0"))
    if task == "linear":
        assert np.allclose(PMMLLinearRegression(pmml=str(path)).predict(values), expected, rtol=1e-12)
    else:
        assert b'normalizationMethod="exp"' in path.read_bytes()


def test_a_provider_whose_policy_keeps_its_part_declines(tmp_path: Path) -> None:
    recorded, code = train_whole(tmp_path, allowed=False)
    assert code == "whole_model_refused"
    assert not ModelStore(recorded.party(BUSINESS).data_directory).all()


def test_the_command_writes_each_format_and_refuses_where_a_part_is_missing(
    handed: Recorded, trained: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(recorded: Recorded, role: str, form: str) -> int:
        arguments = ["models", "export", recorded.job, "--party", str(recorded.paths[role]), "--format", form]
        monkeypatch.setattr("sys.argv", ["warren", *arguments, "--out", str(tmp_path / f"{role}.{form}")])
        return guarded(app)

    assert [run(handed, BUSINESS, form) for form in ("part", "pmml", "onnx")] == [DONE] * 3
    assert json.loads((tmp_path / "business.part").read_bytes())["role"] == "business"
    assert [run(handed, PROVIDER, form) for form in ("pmml", "onnx")] == [BAD_INPUT] * 2
    assert run(trained, BUSINESS, "pmml") == BAD_INPUT


def a_part(**changes: object) -> schemas.ModelPart:
    fields = {"names": ["a", "b"], "coefficients": [1.0, 2.0], "centres": [0.0, 0.0], "steps": [1.0, 1.0]}
    return schemas.ModelPart(**{**fields, "preparation": b"", **changes})  # type: ignore[arg-type]


def closing(*, whole: bool) -> JobState:
    """A business that waits for the end, with a provider of two columns."""
    return JobState(
        role=states.BUSINESS,
        job="job-1",
        me="business-a",
        partner="provider-a",
        partners=("provider-a",),
        peers=(Peer(name="provider-a", columns=2),),
        phase=Phase.CLOSING,
        contract=encode_contract(contract(whole_model=whole, marks=("few_columns",))),
    )


def test_a_part_is_taken_once_whole_and_where_the_contract_says_so() -> None:
    state, _ = received(closing(whole=True), a_part(), "provider-a")
    assert state.peers[0].part
    for before, message in (
        (state, a_part()),
        (closing(whole=False), a_part()),
        (closing(whole=True), a_part(names=["a"])),
        (closing(whole=True), a_part(names=["a", "a"])),
        (closing(whole=True), a_part(steps=[1.0])),
    ):
        with pytest.raises(RemoteProtocolError):
            received(before, message, "provider-a")
