// All jobs: what runs first, then what is over, newest first.

import { chip, empty, h, meter } from "./dom.js";
import { ago, moment, plain, shortened, span, whole } from "./format.js";

const SORTS = { done: "good", running: "run", failed: "bad", frozen: "bad", declined: "warn", cancelled: "warn", expired: "warn" };

export function jobs(state) {
  const running = state.overview.jobs.filter((one) => one.status === "running");
  const over = state.overview.jobs.filter((one) => one.status !== "running");
  const count = state.overview.over;
  if (!running.length && !over.length) {
    return [
      h("h1", {}, "Jobs"),
      empty("There is no job yet.", "A business starts one with ", h("code", {}, "warren submit job.toml"), "; a provider sees it here as soon as it is proposed."),
    ];
  }
  return [
    h("h1", {}, "Jobs"),
    pending(state),
    h("h2", { class: "list" }, `Running (${whole(running.length)})`),
    running.length ? h("ul", { class: "jobs" }, running.map(card)) : h("p", { class: "soft" }, "Nothing runs."),
    over.length ? [h("h2", { class: "list" }, `Over (${whole(count)})`), h("ul", { class: "jobs over" }, over.map(card))] : null,
    over.length < count ? h("p", { class: "soft" }, `The newest ${whole(over.length)} are shown; `, h("code", {}, "warren jobs"), " lists all.") : null,
  ];
}

function pending(state) {
  const count = state.overview.pending.length;
  if (!count) return null;
  const text = count === 1 ? "A contract waits for your decision." : `${whole(count)} contracts wait for your decision.`;
  return h("p", { class: "note warn" }, text, " ", h("a", { href: "#/approvals" }, "Read and decide"));
}

function card(one) {
  const runs = one.status === "running";
  return h(
    "li",
    { "data-key": one.job, class: "job" },
    h(
      "div",
      { class: "head" },
      h("a", { href: `#/jobs/${encodeURIComponent(one.job)}`, class: "title" }, titleOf(one)),
      chip(one.outcome, SORTS[one.outcome] ?? ""),
      h("span", { class: "soft" }, `${one.role} · `, h("code", {}, shortened(one.job)), ` · ${runs ? `began ${ago(one.created_at)}` : `ended ${moment(one.updated_at)}`}`),
    ),
    runs ? progress(one) : reason(one),
    waits(one),
  );
}

export function titleOf(one) {
  return `${one.title} with ${one.partners.join(", ")}`;
}

export function outcomeChip(one) {
  return chip(one.outcome, SORTS[one.outcome] ?? "");
}

export function progress(one) {
  const { done, total } = one.progress;
  const share = total ? done / total : null;
  return [
    h("p", {}, sentence(one.stage)),
    total ? meter(`Rows of ${one.stage}`, share, `${whole(done)} of ${whole(total)} rows`) : null,
    total ? h("p", { class: "figures" }, speed(one)) : null,
  ];
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function speed(one) {
  const { done, total } = one.progress;
  const parts = [`${whole(done)} of ${whole(total)} rows`];
  const most = one.progress.iteration ? ` if all ${whole(one.progress.iterations)} iterations are needed` : "";
  if (one.rate > 0) parts.push(`${whole(one.rate)} rows/s`);
  if (one.left_s !== null) parts.push(`about ${span(one.left_s)} left${most}`);
  return parts.join(" · ");
}

function reason(one) {
  if (!one.reason_code && !one.reason) return null;
  return h("p", { class: "reason" }, h("code", {}, plain(one.reason_code)), one.reason ? ` ${plain(one.reason)}` : "");
}

// Whom a job waits for, since when and why: the words of `warren jobs`.
export function waits(one) {
  const waiting = one.waiting;
  if (!waiting || waiting.why === "own_work") return null;
  if (waiting.why === "paused") return h("p", { class: "waits" }, "Paused here: nothing is computed or sent for it.");
  const away = ["partner_turn", "partner_silent", "partner_untold"].includes(waiting.why);
  const partner = away ? waiting.waits_for : one.partners.join(", ");
  const here = ["steward", "partner_steward", "quiet_hours"].includes(waiting.why);
  const sign = here ? null : waiting.heard_at ? `last sign of ${partner} ${ago(waiting.heard_at)}` : `no sign of ${partner} yet`;
  const decide = one.progress.stage === "approval" && one.role.startsWith("provider") && h("a", { href: "#/approvals" }, "Read and decide");
  if (decide) return h("p", { class: "waits" }, `Waits for your decision since ${ago(waiting.since).replace(" ago", "")}. `, decide);
  return h(
    "p",
    { class: "waits" },
    "Waits for ",
    h("strong", {}, waiting.waits_for),
    ` since ${ago(waiting.since).replace(" ago", "")}: ${plain(waiting.detail)}${sign ? `; ${sign}` : ""}`,
  );
}
