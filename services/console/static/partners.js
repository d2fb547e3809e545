// Who the partners are, and what was released to each in a month, over all jobs.

import { empty, h, section, table } from "./dom.js";
import { ago, whole } from "./format.js";

export function partners(state, { choose }) {
  return [h("h1", {}, "Partners"), month(state.told.month, state.error.month, choose), peers(state.told.peers, state.error.peers)];
}

function month(found, error, choose) {
  if (!found) return section("Released this month", h("p", { class: error ? "note bad" : "soft" }, error ?? "Reading…"));
  const steps = h(
    "div",
    { class: "buttons" },
    h("button", { type: "button", class: "quiet", onclick: () => choose({ month: moved(found.month, -1) }) }, "Month before"),
    h("button", { type: "button", class: "quiet", disabled: found.current, onclick: () => choose({ month: moved(found.month, 1) }) }, "Month after"),
  );
  const name = found.current ? `${found.month}, so far` : found.month;
  if (!found.partners.length) return section("Released this month", h("p", {}, h("strong", {}, name)), empty("Nothing in this month.", "No job began, and no row was scored."), steps);
  const sum = (key) => found.partners.reduce((total, one) => total + one[key], 0);
  const row = (title, value) => ({ cells: [title, whole(value("jobs")), whole(value("done")), whole(value("rows")), whole(value("entries")), whole(value("rows_scored"))] });
  return section(
    "Released this month",
    h("p", {}, h("strong", {}, name), h("span", { class: "soft" }, " (UTC; jobs by the month in which they began)")),
    table(
      `Released in ${name}`,
      [["partner", ""], ["jobs", "number"], ["done", "number"], ["rows used", "number"], ["numbers released", "number"], ["rows scored", "number"]],
      [...found.partners.map((one) => row(one.partner, (key) => one[key])), ...(found.partners.length > 1 ? [row("all", sum)] : [])],
    ),
    h("p", { class: "soft" }, "Numbers released: gradient and Gram entries that the partner can read, granted or, once a job is over, released."),
    steps,
  );
}

function moved(name, by) {
  const [year, number] = name.split("-").map(Number);
  const at = new Date(Date.UTC(year, number - 1 + by, 1));
  return at.toISOString().slice(0, 7);
}

function peers(found, error) {
  if (!found) return section("Fingerprints", h("p", { class: error ? "note bad" : "soft" }, error ?? "Reading…"));
  return section(
    "Fingerprints",
    h("p", { class: "soft" }, "Read them to each other over the telephone. What differs is another party."),
    h("h3", {}, `${found.own.name} (you)`),
    fingerprint(found.own.fingerprint),
    found.peers.length
      ? h("div", { class: "prints" }, found.peers.map(peer))
      : empty("There is no partner yet.", "Add one with ", h("code", {}, "warren peer add FILE"), " and start the daemon again."),
  );
}

function peer(one) {
  const sign = one.heard_at ? `last sign ${ago(one.heard_at)}` : "no sign yet";
  return h("div", { "data-key": one.name }, h("h3", {}, one.name), fingerprint(one.fingerprint), h("p", { class: "soft" }, sign));
}

function fingerprint(text) {
  return h("p", { class: "fingerprint" }, text.split(/\s+/).map((group) => h("span", {}, group)));
}
