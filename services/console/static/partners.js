// Who the partners are, and what was released to each in a month, over all jobs.

import { act } from "./daemon.js";
import { confirmed } from "./dialogs.js";
import { empty, h, section, table } from "./dom.js";
import { ago, moment, plain, whole } from "./format.js";

export function partners(state, { choose }) {
  return [
    h("h1", {}, "Partners"),
    month(state.told.month, state.error.month, choose),
    peers(state.told.peers, state.error.peers, state.overview.orders),
  ];
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

function peers(found, error, orders) {
  if (!found) return section("Partners and fingerprints", h("p", { class: error ? "note bad" : "soft" }, error ?? "Reading…"));
  return section(
    "Partners and fingerprints",
    h("p", { class: "soft" }, "Read them to each other over the telephone. What differs is another party."),
    h("h3", {}, `${found.own.name} (you)`),
    fingerprint(found.own.fingerprint),
    found.peers.length
      ? h("div", { class: "prints" }, found.peers.map((one) => peer(one, orders)))
      : empty("There is no partner yet.", "Add one with ", h("code", {}, "warren peer add FILE"), " and start the daemon again."),
  );
}

function peer(one, orders) {
  const sign = one.heard_at ? `last sign ${ago(one.heard_at)}` : "no sign yet";
  return h("div", { "data-key": one.name }, h("h3", {}, one.name), fingerprint(one.fingerprint), h("p", { class: "soft" }, sign), consent(one.name, orders));
}

// What stands over all jobs with a partner, and what changes it.
function consent(name, orders) {
  const paused = orders.paused_partners.includes(name);
  const revoked = orders.revoked.filter((one) => one.partner === name);
  const button = (text, onclick, sort = "") => h("button", { type: "button", class: `quiet ${sort}`, "aria-label": `${text} (${name})`, onclick }, text);
  return [
    paused ? h("p", { class: "waits" }, "All jobs with it are paused.") : null,
    revoked.map((one) => h("p", { class: "waits" }, `Consent revoked ${moment(one.at)}${one.dataset ? ` for ${one.dataset}` : ""}: ${plain(one.reason)}`)),
    h(
      "div",
      { class: "buttons" },
      paused ? button("Resume all jobs", () => ask(name, "resume", `Let all jobs with ${name} go on?`, "Resume")) : button("Pause all jobs", () => ask(name, "pause", `Pause all jobs with ${name}?`, "Pause")),
      revoked.map((one) => button(`Allow ${one.dataset || "jobs"} again`, () => ask(name, "allow", `Allow jobs with ${name} again?`, "Allow", one.dataset))),
      revoked.some((one) => !one.dataset) ? null : button("Revoke all consents", () => revoke(name), "danger"),
    ),
  ];
}

const MEANS = {
  pause: "Nothing is computed or sent for jobs with it until you resume them. The partner sees that they are paused.",
  resume: "They go on where they stood.",
  allow: "New contracts are judged by the policy. Jobs that ended stay so.",
};

function ask(name, verb, title, button, dataset = "") {
  confirmed({ title, text: [MEANS[verb]], button }, () => act(verb, { partner: name, ...(dataset ? { dataset } : {}) }));
}

function revoke(name) {
  confirmed(
    {
      title: `Revoke all consents to ${name}?`,
      text: ["All jobs in which it uses your data end at once, and new ones are declined until you allow them again."],
      reason: "Reason (the partner reads it)",
      needed: true,
      button: "Revoke",
      danger: true,
    },
    (reason) => act("revoke", { partner: name, reason }),
  );
}

function fingerprint(text) {
  return h("p", { class: "fingerprint" }, text.split(/\s+/).map((group) => h("span", {}, group)));
}
