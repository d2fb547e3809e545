// Contracts that are within the policy but outside what it accepts by itself: the steward reads and decides.

import { act } from "./daemon.js";
import { confirmed } from "./dialogs.js";
import { empty, h } from "./dom.js";
import { now, plain, shortened, span } from "./format.js";
import { sentences } from "./job.js";

export function approvals(state, { read }) {
  const list = state.overview.pending;
  if (!list.length) {
    return [
      h("h1", {}, "Approvals"),
      empty("Nothing waits for a decision.", "Contracts come here when policy.toml says that a person has to decide, or when they are larger than what it accepts by itself."),
    ];
  }
  return [h("h1", {}, "Approvals"), list.map((one) => pending(one, read))];
}

function pending(one, read) {
  return h(
    "article",
    { class: "card", "data-key": one.job, "aria-labelledby": `p-${one.job}` },
    h("div", { class: "head" }, h("h2", { id: `p-${one.job}` }, `Contract proposed by ${one.partner}`), h("a", { href: `#/jobs/${encodeURIComponent(one.job)}` }, "Job ", h("code", {}, shortened(one.job)))),
    h("p", { class: "soft" }, `It has waited for ${span(now() - one.since)}. Nothing of your data has left.`),
    one.exceeded.length ? h("div", { class: "note warn" }, h("strong", {}, "Why you are asked"), sentences(one.exceeded)) : null,
    sentences(one.contract),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", class: "primary", onclick: () => approve(one, read) }, "Approve"),
      h("button", { type: "button", class: "danger quiet", onclick: () => decline(one, read) }, "Decline"),
    ),
  );
}

function approve(one, read) {
  confirmed(
    {
      title: `Approve the contract of ${one.partner}?`,
      text: ["The job begins at once. It can be ended later, but what has left by then cannot be taken back."],
      button: "Approve",
    },
    async () => {
      await act("approve", { id: one.job });
      read();
    },
  );
}

function decline(one, read) {
  confirmed(
    {
      title: `Decline the contract of ${one.partner}?`,
      text: ["The job ends at all parties before anything is computed."],
      reason: `Reason (${plain(one.partner)} reads it)`,
      needed: true,
      button: "Decline",
      danger: true,
    },
    async (reason) => {
      await act("decline", { id: one.job, reason });
      read();
    },
  );
}
