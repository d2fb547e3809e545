"""The whole model for other programs: PMML 4.4 and ONNX. Their inputs are the prepared columns of all parties.

PMML: Data Mining Group, https://dmg.org/pmml/v4-4-1/Regression.html. ONNX: opset 18 of the standard operators, in
double precision, with the grid of training in it: its scores are those of the model to the last bits. PMML has the
coefficients only; its scores differ by what rounding to the grid makes, at most half a step for each column.
"""

from io import BytesIO
from typing import Any, Final
from xml.etree import ElementTree as Xml

import numpy as np

from services.models.version import ModelDamaged, WholeModel

NAMESPACE: Final = "http://www.dmg.org/PMML-4_4"
OPSET: Final = 18
IR_VERSION: Final = 10
TARGET: Final = "y"


class FormatUnavailable(RuntimeError):
    """A format whose library is not installed."""


def to_pmml(model: WholeModel, software: str) -> bytes:
    """A PMML document with one RegressionModel: a classification for a logistic model, else a regression."""
    root = Xml.Element("PMML", {"xmlns": NAMESPACE, "version": "4.4"})
    header = Xml.SubElement(root, "Header", {"description": f"joint model {model.model}"})
    Xml.SubElement(header, "Application", {"name": "Warren", "version": software})
    logistic = model.task == "logistic"
    inputs = [*model.names, *([model.offset] if model.shifted else [])]
    dictionary = Xml.SubElement(root, "DataDictionary", {"numberOfFields": str(len(inputs) + 1)})
    for name in inputs:
        Xml.SubElement(dictionary, "DataField", {"name": name, "optype": "continuous", "dataType": "double"})
    kind = ("categorical", "integer") if logistic else ("continuous", "double")
    target = Xml.SubElement(dictionary, "DataField", {"name": TARGET, "optype": kind[0], "dataType": kind[1]})
    for value in ("0", "1") if logistic else ():
        Xml.SubElement(target, "Value", {"value": value})
    described = {
        "modelName": model.model,
        "functionName": "classification" if logistic else "regression",
        "normalizationMethod": {"logistic": "logit", "linear": "none"}.get(model.task, "exp"),
    }
    regression = Xml.SubElement(root, "RegressionModel", described)
    schema = Xml.SubElement(regression, "MiningSchema")
    for name in inputs:
        Xml.SubElement(schema, "MiningField", {"name": name, "usageType": "active"})
    Xml.SubElement(schema, "MiningField", {"name": TARGET, "usageType": "target"})
    of = {"targetCategory": "1"} if logistic else {}
    table = Xml.SubElement(regression, "RegressionTable", {"intercept": repr(model.intercept), **of})
    for name, column in zip(model.names, model.columns, strict=True):
        Xml.SubElement(table, "NumericPredictor", {"name": name, "coefficient": repr(column.coefficient)})
    if model.shifted:
        Xml.SubElement(table, "NumericPredictor", {"name": model.offset, "coefficient": "1.0"})
    if logistic:
        Xml.SubElement(regression, "RegressionTable", {"intercept": "0.0", "targetCategory": "0"})
    Xml.indent(root)
    data = BytesIO()
    Xml.ElementTree(root).write(data, encoding="utf-8", xml_declaration=True)
    return data.getvalue() + b"\n"


def to_onnx(model: WholeModel) -> bytes:
    """An ONNX model from `columns` (n, d), double, in the order of the metadata, to `score` and `prediction` (n,).

    A model with exposures or offsets has one input more, `offset` (n,): what a score begins with.

    Raises FormatUnavailable without the package `onnx`.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise FormatUnavailable("ONNX needs the package onnx: pip install 'warren[onnx]'") from None

    def constant(name: str, values: Any) -> Any:
        return numpy_helper.from_array(np.asarray(values, dtype=np.float64), name)

    columns = model.columns
    inverse_link = {"logistic": "Sigmoid", "linear": "Identity"}.get(model.task, "Exp")
    nodes = [
        helper.make_node("Sub", ["columns", "centre"], ["shifted"]),
        helper.make_node("Div", ["shifted", "step"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["steps"]),  # halves to even, as in training
        helper.make_node("Mul", ["steps", "step"], ["unscaled"]),
        helper.make_node("Add", ["unscaled", "centre"], ["gridded"]),
        helper.make_node("MatMul", ["gridded", "coefficient"], ["products"]),
        helper.make_node("Add", ["products", "intercept"], ["unshifted" if model.shifted else "score"]),
        *([helper.make_node("Add", ["unshifted", "offset"], ["score"])] if model.shifted else []),
        helper.make_node(inverse_link, ["score"], ["prediction"]),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [
            helper.make_tensor_value_info("columns", TensorProto.DOUBLE, ["n", len(columns)]),
            *([helper.make_tensor_value_info("offset", TensorProto.DOUBLE, ["n"])] if model.shifted else []),
        ],
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["n"]) for name in ("score", "prediction")],
        [
            constant("centre", [column.centre for column in columns]),
            constant("step", [column.step for column in columns]),
            constant("coefficient", [column.coefficient for column in columns]),
            constant("intercept", model.intercept),
        ],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="warren"
    )
    helper.set_model_props(made, {"columns": "\n".join(model.names), "task": model.task, "model": model.model})
    try:
        checker.check_model(made, full_check=True)
    except checker.ValidationError as error:
        raise ModelDamaged(f"model {model.model} makes no valid ONNX: {error}") from None
    data: bytes = made.SerializeToString(deterministic=True)
    return data
