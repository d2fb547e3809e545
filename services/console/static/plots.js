// Plots as SVG. Each says in words what it shows, and stands beside a table with its numbers.

import { h } from "./dom.js";
import { power, short } from "./format.js";

const LEFT = 46;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 30;

// `series`: [{name, sort, points: [[x, y]], hollow}]; y may be logarithmic. `level`: {value, name}, a dashed line.
// A unit of the drawing is about a pixel, so that numbers have the size of the text around them.
function roomFor(half) {
  return half || window.innerWidth < 640 ? 350 : 640;
}

export function lines({ half = false, label, series, xTicks, yTicks, height = 240, log = false, level = null, xName, yText = short, diagonal = false }) {
  const WIDTH = roomFor(half);
  const scale = log ? Math.log10 : (value) => value;
  const [x0, x1] = [xTicks[0], xTicks.at(-1)];
  const [y0, y1] = [scale(yTicks[0]), scale(yTicks.at(-1))];
  const x = (value) => round(LEFT + ((value - x0) / (x1 - x0 || 1)) * (WIDTH - LEFT - RIGHT));
  const y = (value) => round(height - BOTTOM - ((scale(value) - y0) / (y1 - y0 || 1)) * (height - TOP - BOTTOM));
  return h(
    "svg",
    { class: "plot", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label },
    yTicks.map((value) => [
      h("line", { class: "grid-line", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      h("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, log ? power(Math.round(Math.log10(value))) : yText(value)),
    ]),
    thinned(xTicks).map((value) => h("text", { class: "tick", x: x(value), y: height - BOTTOM + 16, "text-anchor": "middle" }, short(value))),
    h("text", { class: "tick", x: WIDTH - RIGHT, y: height - 2, "text-anchor": "end" }, xName),
    diagonal ? h("line", { class: "level", x1: x(x0), y1: y(yTicks[0]), x2: x(x1), y2: y(yTicks.at(-1)) }) : null,
    level === null ? null : h("line", { class: "level", x1: LEFT, x2: WIDTH - RIGHT, y1: y(level), y2: y(level) }),
    series.map(({ sort, points, hollow }) =>
      h(
        "g",
        { class: `series ${sort}` },
        h("polyline", { points: points.map(([a, b]) => `${x(a)},${y(b)}`).join(" ") }),
        points.map(([a, b], place) => h("circle", { cx: x(a), cy: y(b), r: 3.5, class: hollow?.[place] ? "hollow" : null })),
      ),
    ),
  );
}

export function bars({ label, points, xName, height = 110 }) {
  const WIDTH = roomFor(false);
  const most = Math.max(1, ...points.map(([, value]) => value));
  const first = points[0]?.[0] ?? 1;
  const count = Math.max(1, points.length);
  const step = (WIDTH - LEFT - RIGHT) / count;
  const y = (value) => round(height - BOTTOM - (value / most) * (height - TOP - BOTTOM));
  return h(
    "svg",
    { class: "plot", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label },
    [0, most].map((value) => [
      h("line", { class: "grid-line", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      h("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)),
    ]),
    points.map(([place, value]) =>
      h("rect", {
        class: "bar",
        x: round(LEFT + (place - first) * step + step * 0.2),
        y: y(value),
        width: round(Math.min(step * 0.6, 60)),
        height: Math.max(0, height - BOTTOM - y(value)),
      }),
    ),
    thinned(points).map(([place]) => h("text", { class: "tick", x: round(LEFT + (place - first + 0.2) * step + Math.min(step * 0.6, 60) / 2), y: height - BOTTOM + 16, "text-anchor": "middle" }, short(place))),
    h("text", { class: "tick", x: WIDTH - RIGHT, y: height - 2, "text-anchor": "end" }, xName),
  );
}

export function legend(entries) {
  return h("ul", { class: "legend" }, entries.map(([name, sort]) => h("li", {}, h("span", { class: `swatch ${sort}` }), name)));
}

// Whole powers of ten around positive values.
export function decades(values) {
  const positive = values.filter((value) => value > 0);
  if (!positive.length) return [0.1, 1];
  const low = Math.floor(Math.log10(Math.min(...positive)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...positive))));
  return Array.from({ length: high - low + 1 }, (_, place) => 10 ** (low + place));
}

export function steps(low, high, count = 4) {
  const wide = (high - low || 1) / count;
  const unit = 10 ** Math.floor(Math.log10(wide));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * unit).find((one) => one >= wide) ?? 10 * unit;
  const first = Math.floor(low / step) * step;
  const found = [];
  for (let at = first; found.length < 12; at += step) {
    found.push(Number(at.toPrecision(12)));
    if (at >= high - step * 1e-9) break;
  }
  return found;
}

function thinned(ticks) {
  const every = Math.ceil(ticks.length / 12);
  return ticks.filter((_, place) => place % every === 0);
}

function round(value) {
  return Math.round(value * 10) / 10;
}
