// What this party keeps of its models. No parameter is shown.

import { chip, empty, grid, h, pairs } from "./dom.js";
import { figure, moment, plain, whole } from "./format.js";

export function models(state) {
  const { models: found } = state.told;
  const error = state.error.models;
  if (!found) return [h("h1", {}, "Models"), h("p", { class: error ? "note bad" : "soft" }, error ?? "Reading…")];
  if (!found.length) return [h("h1", {}, "Models"), empty("There is no model yet.", "Every job that is done leaves one here: this party's part of it.")];
  return [h("h1", {}, "Models"), h("ul", { class: "jobs" }, found.map(card))];
}

function card(one) {
  const retired = one.status === "retired";
  return h(
    "li",
    { class: "job", "data-key": one.model },
    h(
      "div",
      { class: "head" },
      h("a", { class: "title", href: `#/jobs/${encodeURIComponent(one.model)}` }, `${one.task.charAt(0).toUpperCase()}${one.task.slice(1)} model of ${one.business} with ${one.providers}`),
      chip(one.status, retired ? "warn" : "good"),
    ),
    h("p", { class: "soft" }, `${one.role} · made ${moment(one.created_at)}`),
    retired ? h("p", { class: "reason" }, `Retired ${moment(one.retired_at)}`, one.retired_because ? `: ${plain(one.retired_because)}` : "") : null,
    grid([
      ["Rows", whole(one.rows)],
      ["Own columns", whole(one.columns)],
      ["Iterations", `${whole(one.iterations)}${one.converged ? ", converged" : ""}`],
      ...Object.entries(one.metrics ?? {}).map(([name, value]) => [name.replaceAll("_", " ").replace(".", ": "), typeof value === "number" ? figure(value) : plain(value)]),
    ]),
    h(
      "details",
      {},
      h("summary", {}, "Where it came from"),
      pairs([
        ["Model", h("code", {}, one.model)],
        ["Contract", h("code", {}, one.contract_digest)],
        ["Data", h("code", {}, one.data_digest)],
        ["Columns", h("code", {}, one.schema_digest)],
        ["Journal", `entries ${whole(one.journal.first)} to ${whole(one.journal.last)}`],
        ["Head of the chain", h("code", {}, one.journal.head)],
        ["Software", plain(one.software_version)],
      ]),
    ),
  );
}
