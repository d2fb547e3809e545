// How good the model is on the parts that the contract lets the business look at: metrics.json of the job.

import { h, section, table } from "./dom.js";
import { figure, whole } from "./format.js";
import { legend, lines, steps } from "./plots.js";

const SORTS = ["business", "provider", "third"];
const SHARES = [0, 0.2, 0.4, 0.6, 0.8, 1];

export function evaluation(found) {
  const parts = Object.entries(found?.parts ?? {});
  if (!parts.length) return null;
  const names = Object.keys(parts[0][1].metrics);
  return section(
    "How good the model is",
    table(
      "Figures by part",
      [["figure", ""], ...parts.map(([name]) => [name, "number"])],
      [
        { cells: ["rows", ...parts.map(([, one]) => whole(one.rows))] },
        ...names.map((name) => ({ cells: [name.replaceAll("_", " "), ...parts.map(([, one]) => figure(one.metrics[name]))] })),
      ],
    ),
    legend(parts.map(([name], place) => [name, SORTS[place % SORTS.length]])),
    h("div", { class: "pair" }, gain(parts), calibration(parts)),
  );
}

function gain(parts) {
  const series = parts.map(([, one], place) => ({
    sort: SORTS[place % SORTS.length],
    points: [[0, 0], ...one.lift.filter((row) => row.gain !== null).map((row) => [row.share, row.gain])],
  }));
  return h(
    "figure",
    {},
    h("figcaption", {}, "Gain: share of the labels found, by the share of rows with the highest scores"),
    lines({ label: `Gain. ${parts.map(([name, one]) => `${name}: ${half(one.lift)}`).join("; ")}.`, series, xTicks: SHARES, yTicks: SHARES, xName: "share of rows", diagonal: true, half: true, height: 260 }),
  );
}

function half(lift) {
  const row = lift.find((one) => one.share >= 0.5);
  return row ? `${figure(row.gain, 2)} of the labels in the upper half` : "no rows";
}

function calibration(parts) {
  const all = parts.flatMap(([, one]) => one.calibration.flatMap((row) => [row.expected, row.observed])).filter((value) => value !== null);
  if (!all.length) return null;
  const ticks = steps(Math.min(...all), Math.max(...all));
  const series = parts.map(([, one], place) => ({
    sort: SORTS[place % SORTS.length],
    points: one.calibration.filter((row) => row.expected !== null && row.observed !== null).map((row) => [row.expected, row.observed]),
  }));
  return h(
    "figure",
    {},
    h("figcaption", {}, "Calibration: mean label by mean prediction of a bin"),
    lines({ label: "Calibration: mean label against mean prediction in bins; on the diagonal both agree.", series, xTicks: ticks, yTicks: ticks, xName: "prediction", diagonal: true, half: true, height: 260 }),
  );
}
