// The daemon, its broker and its disk: what `warren job` says when it waits, in one place.

import { chip, empty, h, pairs, section, table } from "./dom.js";
import { moment, plain, seconds, size, span, whole, now } from "./format.js";

export function system(state) {
  const found = state.told.system;
  const error = state.error.system;
  if (!found) return [h("h1", {}, "System"), h("p", { class: error ? "note bad" : "soft" }, error ?? "Reading…")];
  return [h("h1", {}, "System"), h("div", { class: "columns even" }, h("div", {}, broker(found), waitingOut(found), parked(found.parked)), h("div", {}, daemon(found, state.overview), work(found)))];
}

function broker(found) {
  const { up, detail } = found.transport;
  return section(
    "Broker",
    h("p", {}, chip(up ? "connected" : "away", up ? "good" : "warn"), " ", plain(detail)),
    pairs([
      ["Address", h("code", {}, found.broker.address)],
      ["Virtual host", h("code", {}, found.broker.vhost)],
      ["Line", found.broker.sealed_line ? "TLS" : "no TLS, this machine only"],
    ]),
  );
}

function waitingOut(found) {
  return section(
    "Without a receipt",
    h("p", { class: "soft" }, "Messages that a partner's journal has not confirmed yet. They are sent again when they are missing there."),
    found.outbox.length
      ? table("Messages without a receipt", [["partner", ""], ["messages", "number"], ["size", "number"]], found.outbox.map((one) => ({ cells: [one.partner, whole(one.messages), size(one.bytes)] })))
      : empty("Everything has arrived."),
  );
}

function parked(found) {
  const codes = Object.entries(found.codes);
  return section(
    "Parked deliveries",
    h("p", { class: "soft" }, "What came and could not be applied. Nothing depends on it; the reason codes are in docs/operating.md."),
    codes.length
      ? [
          h("p", {}, codes.map(([code, count]) => `${plain(code)}: ${whole(count)}`).join(", ")),
          table("Parked deliveries", [["when", ""], ["code", ""], ["sender", ""], ["size", "number"]], found.rows.map((one) => ({ cells: [moment(one.at), plain(one.code), plain(one.sender || one.claimed || "unknown"), size(one.bytes)] }))),
        ]
      : empty("Nothing is parked."),
  );
}

function daemon(found, overview) {
  return section(
    "Daemon",
    found.disk.ok ? null : h("p", { class: "note bad" }, plain(found.disk.detail)),
    pairs([
      ["Version", overview.version],
      ["Runs since", `${moment(overview.started_at)} (${span(now() - overview.started_at)})`],
      ["Process", String(found.pid)],
      ["Processor time", seconds(found.cpu_seconds)],
      ["Most memory", size(found.peak_bytes)],
      ["Longest pause of its loop", `${whole(1000 * found.lag_worst_s)} ms`],
      ["Entries in the journal", whole(found.journal.entries)],
      ["Written to segments", size(found.journal.segment_bytes)],
      ["Disk", found.disk.ok ? "can be written" : "cannot be written"],
    ]),
  );
}

function work(found) {
  return section(
    "Work",
    pairs([
      ["Worker processes", whole(found.workers.length)],
      ["Tasks waiting", whole(found.tasks_waiting)],
      ...found.back_ends.map((one) => [one.work, `${one.name}: ${one.why} ${one.advice}`.trim()]),
    ]),
  );
}
