// One job: where it stands, how it converges, what it is worth, what has left the house, and what was agreed.

import { act } from "./daemon.js";
import { confirmed, told } from "./dialogs.js";
import { empty, h, pairs, section, table } from "./dom.js";
import { evaluation } from "./evaluation.js";
import { DASH, counted, day, figure, moment, plain, seconds, short, size, whole } from "./format.js";
import { outcomeChip, progress, titleOf, waits } from "./jobs.js";
import { bars, decades, legend, lines, steps } from "./plots.js";

const STOPS = {
  patience: "the validation rows got no better",
  evaluations: "the contract allows no more evaluations",
};

const STAGES = [
  ["align", "Align samples"],
  ["encrypt_features", "Encrypt features"],
  ["train", "Train"],
  ["infer", "Standard errors"],
];

export function job(state) {
  const one = state.seen.job;
  if (!one) return [back(), h("h1", {}, "Job"), h("p", { class: "soft" }, "Reading…")];
  if (one.error) return [back(), h("h1", {}, "Job"), h("p", { class: "note bad" }, one.error.message)];
  return [
    back(),
    h(
      "div",
      { class: "head" },
      h("h1", {}, titleOf(one)),
      outcomeChip(one),
      one.status === "running" ? h("div", { class: "buttons" }, rest(one, state.overview.orders), end(one)) : null,
    ),
    h("p", { class: "soft ids" }, `${one.role} · `, h("code", {}, one.job), ` · began ${moment(one.created_at)}`),
    h(
      "div",
      { class: "columns" },
      h("div", {}, standing(one), convergence(one.convergence), evaluation(one.figures), log(one.lines)),
      h("div", {}, left(one.so_far), agreed(state.told.contract, state.error.contract)),
    ),
  ];
}

function back() {
  return h("p", { class: "back" }, h("a", { href: "#/jobs" }, "All jobs"));
}

// Pausing loses nothing and needs no question.
function rest(one, orders) {
  const paused = orders.paused_jobs.includes(one.job);
  const verb = paused ? "resume" : "pause";
  return h("button", { type: "button", class: "quiet", onclick: () => done(verb, one) }, paused ? "Resume" : "Pause");
}

async function done(verb, one) {
  try {
    await act(verb, { id: one.job });
  } catch (error) {
    told(error.message);
  }
}

// A provider takes its consent back; a business ends what it began.
function end(one) {
  const provider = one.role.startsWith("provider");
  return h("button", { type: "button", class: "quiet danger", onclick: () => (provider ? revoke(one) : cancel(one)) }, provider ? "Revoke consent" : "Cancel job");
}

function revoke(one) {
  confirmed(
    {
      title: "Take back the consent to this job?",
      text: [`It ends here at once, and at ${one.partners.join(", ")} as soon as it can be reached. What has left by then cannot be taken back.`],
      reason: "Reason (the partner reads it)",
      needed: false,
      button: "Revoke consent",
      danger: true,
    },
    (reason) => act("revoke", { id: one.job, reason }),
  );
}

function cancel(one) {
  confirmed(
    {
      title: "Cancel this job?",
      text: [`It ends here at once, and at ${one.partners.join(", ")} as soon as it can be reached. It cannot be taken up again.`],
      reason: "Reason (the partner reads it)",
      needed: false,
      button: "Cancel job",
      danger: true,
    },
    (reason) => act("cancel", { id: one.job, reason }),
  );
}

// -- where it stands -----------------------------------------------------------------------------------------

function standing(one) {
  const runs = one.status === "running";
  const over = one.reason_code || one.reason ? h("p", { class: "reason" }, h("code", {}, plain(one.reason_code)), ` ${plain(one.reason)}`) : null;
  return section(
    runs ? "Now" : "How it ended",
    runs ? progress(one) : h("p", {}, `${one.outcome} at ${moment(one.updated_at)}`),
    over,
    one.results
      ? h("p", {}, "Results: ", plain(one.results.files.join(", ")), " in ", h("code", {}, plain(one.results.directory)))
      : null,
    waits(one),
    stages(one),
    h(
      "details",
      {},
      h("summary", {}, "Counters"),
      pairs([
        ["Entries in the journal", whole(one.length)],
        ["Head of the chain", h("code", {}, one.head)],
        ...Object.entries(one.statistics).map(([name, value]) => [name.replaceAll("_", " "), name.startsWith("bytes") ? size(value) : whole(value)]),
      ]),
    ),
  );
}

function stages(one) {
  const found = STAGES.filter(([name]) => name in one.seconds);
  if (!found.length) return null;
  const at = found.findIndex(([name]) => name === one.progress.stage);
  const runs = one.status === "running";
  return h(
    "ol",
    { class: "stages" },
    found.map(([name, title], place) => {
      const took = one.seconds[name];
      const here = runs && place === at;
      const past = took > 0 && !here;
      return h("li", { class: here ? "here" : past ? "past" : "", "aria-current": here ? "step" : null }, h("span", {}, title), h("span", { class: "soft" }, took > 0 ? seconds(took) : DASH));
    }),
  );
}

// -- convergence ---------------------------------------------------------------------------------------------

function convergence(found) {
  if (!found) return null;
  const points = found.iterations;
  if (!points.length) return section("Convergence", empty("No iteration has ended yet.", "The plot begins with the first one."));
  const sizes = points.flatMap((one) => [one.business, one.provider]);
  const yTicks = decades([found.tolerance, ...sizes]);
  const floor = yTicks[0];
  const xTicks = Array.from({ length: Math.max(2, points.length) }, (_, place) => place + 1);
  const others = found.providers.join(", ");
  const last = points.at(-1);
  const of = (name) => points.map((one) => [one.iteration, Math.max(one[name], floor)]);
  const hollow = (name) => points.map((one) => one[name] <= 0);
  const label = `Largest gradient entry by iteration, on a logarithmic axis. After iteration ${last.iteration}: ${short(last.business)} at ${found.business}, ${short(last.provider)} at ${others}; tolerance ${short(found.tolerance)}.`;
  return section(
    "Convergence",
    h("p", { class: "soft" }, ended(found, last)),
    legend([
      [found.business, "business"],
      [others, "provider"],
      [`tolerance ${short(found.tolerance)}`, "level"],
      ...(sizes.some((value) => value <= 0) ? [["within release noise", "hollow"]] : []),
    ]),
    h("h3", {}, "Largest gradient entry, beyond release noise"),
    lines({
      label,
      log: true,
      xTicks,
      yTicks,
      level: found.tolerance,
      xName: "iteration",
      series: [
        { sort: "business", points: of("business"), hollow: hollow("business") },
        { sort: "provider", points: of("provider"), hollow: hollow("provider") },
      ],
    }),
    validation(found.validation, xTicks),
    h("h3", {}, "Ciphertexts per row"),
    bars({ label: `Ciphertexts per row by iteration, ${whole(Math.max(...points.map((one) => one.ciphertexts)))} at most.`, points: points.map((one) => [one.iteration, one.ciphertexts]), xName: "iteration" }),
    h(
      "details",
      {},
      h("summary", {}, "Numbers"),
      table(
        "Iterations",
        [["iteration", "number"], [found.business, "number"], [others, "number"], ["ciphertexts per row", "number"], ["score bound", "number"], ["step", "number"]],
        points.map((one) => ({ cells: [whole(one.iteration), short(one.business), short(one.provider), whole(one.ciphertexts), short(one.bound), short(one.step)] })),
      ),
    ),
  );
}

// In a job that stops early, at its business.
function validation(found, xTicks) {
  if (!found) return null;
  const values = found.points.map(([, value]) => value);
  const name = found.metric.replaceAll("_", " ");
  const label = `${name} of the validation rows by iteration: ${figure(values.at(-1))} at the last, best at iteration ${found.best}.`;
  const yTicks = steps(Math.min(...values), Math.max(...values));
  const series = [{ sort: "third", points: found.points, hollow: found.points.map(([iteration]) => iteration !== found.best) }];
  return [
    h("h3", {}, `${name} of the validation rows (filled: the best so far)`),
    lines({ label, series, xTicks, yTicks, xName: "iteration", height: 170 }),
  ];
}

function ended(found, last) {
  const cut = found.iterations_allowed < found.iterations_max ? ` The contract has ${whole(found.iterations_max)}; the release caps leave ${whole(found.iterations_allowed)} on these rows.` : "";
  const count = `${whole(last.iteration)} of at most ${whole(found.iterations_allowed)} iterations`;
  if (found.converged) return `Converged after ${count}.${cut}`;
  if (found.stop_reason === "iterations") return `Ended with ${count}, before the tolerance was reached.${cut}`;
  return found.stop_reason ? `Stopped after ${count}: ${STOPS[found.stop_reason] ?? plain(found.stop_reason)}.${cut}` : `${count} so far.${cut}`;
}

// -- the contract --------------------------------------------------------------------------------------------

export function sentences(list) {
  return list?.length ? h("ul", { class: "sentences" }, list.map((one) => h("li", {}, plain(one)))) : null;
}

function agreed(contract, error) {
  if (!contract) return section("Contract", h("p", { class: error ? "note bad" : "soft" }, error ?? "Reading…"));
  return section(
    "Contract",
    sentences(contract.sentences),
    h("details", {}, h("summary", {}, "Field by field"), pairs(Object.entries(contract.fields).map(([name, value]) => [name.replaceAll("_", " "), field(name, value)]))),
  );
}

function field(name, value) {
  if (name === "expires_at") return value ? `${day(value)} ${moment(value)}` : "never";
  if (Array.isArray(value)) return value.length ? value.map((one) => (typeof one === "object" ? JSON.stringify(one) : plain(one))).join(", ") : "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string" && /^[0-9a-f]{16,}$/.test(value)) return h("code", {}, value);
  return value === "" ? "none" : plain(value);
}

// -- what left the house -------------------------------------------------------------------------------------


function left(found) {
  if (!found?.lines) return null;
  const [sent, received] = ["sent", "received"].map((direction) => found.lines.filter((one) => one.direction === direction));
  return section(
    "What left the house",
    h(
      "p",
      { class: found.within ? "note good" : "note bad" },
      found.within ? "Everything so far is within the signed contract." : "Something is outside the signed contract: it is marked below. Cancel the job and look at the log.",
    ),
    found.whole ? null : h("p", { class: "soft" }, "Still reading the journal of this job…"),
    found.released.map(released),
    h("details", {}, h("summary", {}, `Left: ${sum(sent)}`), kinds(sent)),
    h("details", {}, h("summary", {}, `Came in: ${sum(received)}`), kinds(received)),
    h(
      "details",
      {},
      h("summary", {}, "Against the contract"),
      table(
        "Facts of the job against its contract",
        [["what", ""], ["so far", ""], ["contract", ""]],
        found.facts.map((one) => ({ bad: one.outside, cells: [plain(one.name), plain(one.value), plain(one.contract)] })),
      ),
    ),
  );
}

function released(one) {
  const text = one.allowed === null ? `${whole(one.total)} (no cap yet, or none agreed)` : `${whole(one.total)} of at most ${whole(one.allowed)}`;
  const bar = h("div", { class: "fill" });
  bar.style.inlineSize = one.allowed ? `${Math.min(100, (100 * one.total) / one.allowed).toFixed(1)}%` : "0%";
  return h(
    "div",
    { class: "release", "data-key": one.partner },
    h("p", {}, "Numbers that ", h("strong", {}, one.partner), ` can read: ${text}`),
    one.allowed ? h("div", { class: one.total > one.allowed ? "meter over" : "meter", "aria-hidden": "true" }, bar) : null,
  );
}

function sum(rows) {
  const total = (name) => rows.reduce((all, one) => all + (one[name] ?? 0), 0);
  return `${counted(total("messages"), "message")}, ${size(total("bytes"))}`;
}

function kinds(rows) {
  if (!rows.length) return h("p", { class: "soft" }, "Nothing yet.");
  const several = new Set(rows.map((one) => one.partner)).size > 1;
  return h(
    "ul",
    { class: "kinds" },
    rows.map((one) =>
      h(
        "li",
        { class: one.outside.length ? "bad" : null, "data-key": `${one.direction} ${one.kind} ${one.partner}` },
        h("span", {}, h("code", {}, plain(one.kind)), several ? ` ${one.direction === "sent" ? "to" : "from"} ${one.partner}` : ""),
        h("span", { class: "figures" }, [`${whole(one.messages)}×`, size(one.bytes), one.rows === null ? null : `${whole(one.rows)} rows`].filter(Boolean).join(" · ")),
        h("span", { class: "soft words" }, plain(one.words)),
        one.outside.map((text) => h("p", { class: "fault" }, plain(text))),
      ),
    ),
  );
}

// -- log lines -----------------------------------------------------------------------------------------------

const DRESS = new Set(["event", "timestamp", "level", "job"]);

function log(rows) {
  const text = (row) => Object.entries(row).filter(([name, value]) => !DRESS.has(name) && value !== "None").map(([name, value]) => `${name}=${value}`).join(" ");
  return section(
    "Log",
    rows.length
      ? h(
          "div",
          { class: "log", tabindex: "0", role: "region", "aria-label": "Log lines, newest first" },
          h("ol", {}, rows.toReversed().map((row, place) => h("li", { class: row.level, "data-key": `${rows.length - place} ${row.timestamp}` }, h("time", {}, (row.timestamp ?? "").slice(11, 19)), " ", h("strong", {}, plain(row.event)), " ", plain(text(row))))),
        )
      : empty("No line since the daemon started.", "Older ones are in its log on standard error."),
  );
}
