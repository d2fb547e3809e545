// The frame: which page is shown, what every page has on top, and the stream that keeps both fresh.

import { Stream, get } from "./daemon.js";
import { h, patchChildren } from "./dom.js";
import { moment, plain, whole } from "./format.js";
import { approvals } from "./approvals.js";
import { job } from "./job.js";
import { jobs } from "./jobs.js";
import { models } from "./models.js";
import { partners } from "./partners.js";
import { system } from "./system.js";

const PAGES = {
  jobs: { title: "Jobs", draw: jobs },
  approvals: { title: "Approvals", draw: approvals },
  partners: { title: "Partners", draw: partners, wants: (state) => ({ peers: "peers", month: `month?month=${state.month}` }) },
  models: { title: "Models", draw: models, wants: () => ({ models: "models" }) },
  system: { title: "System", draw: system, wants: () => ({ system: "system" }) },
};
const JOB = { title: "Job", draw: job, wants: (state) => ({ contract: `contract/${state.job}` }) };
const AGAIN_MS = 5_000;

const state = { page: "jobs", job: "", month: "", line: "connecting", overview: null, seen: {}, told: {}, error: {} };
const main = document.getElementById("main");
const stream = new Stream(tell, line);

// -- pages ---------------------------------------------------------------------------------------------------

function shown() {
  return state.job ? JOB : PAGES[state.page];
}

function route() {
  const [page, name] = location.hash.replace(/^#\//, "").split("/");
  const before = `${state.page}/${state.job}`;
  state.page = page in PAGES ? page : "jobs";
  state.job = state.page === "jobs" && name ? decodeURIComponent(name) : "";
  if (before === `${state.page}/${state.job}`) return;
  state.told = {};
  state.error = {};
  delete state.seen.job;
  draw();
  read();
  stream.open(state.job);
  window.scrollTo(0, 0);
  main.querySelector("h1")?.focus({ preventScroll: true });
}

// What a page wants beside the stream.
async function read() {
  const page = shown();
  for (const [name, address] of Object.entries(page.wants?.(state) ?? {})) {
    try {
      const found = await get(address);
      if (page !== shown()) return;
      state.told[name] = found;
      delete state.error[name];
    } catch (error) {
      state.error[name] = error.message;
    }
  }
  draw();
}

function draw() {
  const overview = state.overview;
  drawTop(overview);
  if (!overview) return;
  const page = shown();
  const fresh = h("main", {}, page.draw(state, { read, choose }));
  patchChildren(main, fresh);
  const heading = main.querySelector("h1");
  if (heading) heading.tabIndex = -1;
  document.title = `${heading?.textContent ?? page.title} · ${overview.party} · Warren`;
}

// A page's own choice, such as the month.
function choose(fields) {
  Object.assign(state, fields);
  read();
}

function drawTop(overview) {
  const waiting = overview?.pending.length ?? 0;
  const links = Object.entries(PAGES).map(([name, { title }]) => {
    const here = name === state.page;
    const count = name === "approvals" && waiting ? h("span", { class: "count" }, whole(waiting), h("span", { class: "unseen" }, " waiting")) : null;
    return h("li", {}, h("a", { href: `#/${name}`, "aria-current": here ? "page" : null }, title, count));
  });
  patchChildren(document.getElementById("pages"), h("ul", {}, links));
  document.getElementById("party").textContent = overview?.party ?? "";
  const pill = document.getElementById("line");
  const [sort, text] = lineWords(overview);
  pill.className = `pill ${sort}`;
  pill.textContent = text;
  pill.title = overview?.transport.detail ?? "";
}

function lineWords(overview) {
  if (state.line === "lost") return ["bad", "daemon away"];
  if (!overview) return ["", "connecting"];
  if (!overview.disk.ok) return ["bad", "disk full"];
  return overview.transport.up ? ["good", "broker connected"] : ["warn", "broker away"];
}

// -- the stream ----------------------------------------------------------------------------------------------

function tell(name, data) {
  if (name === "still") return;
  if (name === "overview" && data.error) {
    banner(data.error.message);
    return;
  }
  if (name === "overview") {
    if (state.overview && state.overview.started_at !== data.started_at) say("The daemon was started again.");
    announce(state.overview, data);
    state.overview = data;
    if (!data.disk.ok) banner(`${data.disk.detail}. Make room on the disk of the data directory: nothing is lost, and the daemon goes on by itself.`);
    else banner("");
  }
  if (name === "job") state.seen.job = data;
  draw();
}

function line(found, detail) {
  const before = state.line;
  state.line = found;
  if (found === "open" && before === "lost") {
    banner("");
    say("The daemon is back; this page is fresh again.");
    read();
  }
  if (found === "lost") {
    if (before !== "lost") state.lostAt = Date.now() / 1000;
    banner(`The daemon does not answer. This page shows what it said until ${moment(state.lostAt)}; trying again every ${detail} s.`);
    if (!state.overview) main.replaceChildren(h("h1", {}, "Waiting for the daemon"));
  }
  if (found === "locked") {
    banner("This browser may not look any more: run `warren console` on the daemon's machine and open its link.");
  }
  drawTop(state.overview);
}

function banner(text) {
  const node = document.getElementById("banner");
  if (node.textContent !== text) node.textContent = text;
  node.hidden = !text;
}

// For those who hear the page: changes that matter, not every number.
function say(text) {
  document.getElementById("said").textContent = text;
}

function announce(before, after) {
  if (!before) return;
  const known = new Map(before.jobs.map((one) => [one.job, one]));
  const news = [];
  for (const one of after.jobs) {
    const old = known.get(one.job);
    const name = `${one.title} with ${one.partners.join(", ")}`;
    if (!old) news.push(`New: ${name}.`);
    else if (old.outcome !== one.outcome) news.push(`${name}: ${plain(one.outcome)}.`);
    else if (old.progress.stage !== one.progress.stage) news.push(`${name}: ${one.stage}.`);
  }
  if (after.pending.length > before.pending.length) news.push("A contract waits for your decision.");
  if (before.transport.up !== after.transport.up) news.push(after.transport.up ? "The broker is connected." : "The broker is away.");
  if (news.length) say(news.join(" "));
}

// -- theme ---------------------------------------------------------------------------------------------------

const THEMES = ["system", "light", "dark"];

function theme() {
  return document.documentElement.dataset.theme ?? "system";
}

function showTheme() {
  const button = document.getElementById("theme");
  const word = theme() === "system" ? "auto" : theme();
  patchChildren(button, h("span", {}, h("span", { class: "roomy" }, "Theme: "), word));
  button.setAttribute("aria-label", `Theme: ${word}`);
}

document.getElementById("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("warren-theme", next);
  } catch {
    // For this page only, then.
  }
  showTheme();
});

// A link to "#main" would be a page of ours.
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

showTheme();
state.page = "";
route();
window.addEventListener("hashchange", route);
setInterval(draw, 1_000); // ages grow by themselves
setInterval(read, AGAIN_MS);
