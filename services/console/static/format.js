// Numbers and times for people, with their units; the same as on the command line.

const NUMBER = new Intl.NumberFormat("en");
const SIZES = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]];
const SPANS = [["d", 86_400], ["h", 3_600], ["min", 60]];

export const DASH = "–";

export function whole(value) {
  return value === null || value === undefined ? DASH : NUMBER.format(Math.round(value));
}

export function counted(value, one, many = `${one}s`) {
  return `${whole(value)} ${value === 1 ? one : many}`;
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return DASH;
  for (const [unit, factor] of SIZES) {
    if (bytes >= factor) return `${(bytes / factor).toFixed(bytes >= 100 * factor ? 0 : 1)} ${unit}`;
  }
  return `${whole(bytes)} B`;
}

// A time span in the largest unit of which there are two.
export function span(seconds) {
  const rounded = Math.max(0, Math.round(seconds));
  for (const [unit, factor] of SPANS) {
    if (rounded >= 2 * factor) return `${Math.floor(rounded / factor)} ${unit}`;
  }
  return `${rounded} s`;
}

export function seconds(value) {
  if (value === null || value === undefined) return DASH;
  return value < 10 ? `${value.toFixed(1)} s` : span(value);
}

export function figure(value, digits = 4) {
  return value === null || value === undefined ? DASH : value.toFixed(digits);
}

// Three significant digits, small ones as powers of ten.
export function short(value) {
  if (value === null || value === undefined) return DASH;
  if (value === 0) return "0";
  const most = Math.abs(value);
  if (most >= 1e-3 && most < 1e5) return String(Number(value.toPrecision(3)));
  const [digits, power] = value.toExponential(1).split("e");
  return `${Number(digits)}·10${[...String(Number(power))].map((one) => RAISED[one]).join("")}`;
}

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

export function power(exponent) {
  return `10${[...String(exponent)].map((one) => RAISED[one]).join("")}`;
}

export function now() {
  return Date.now() / 1000;
}

export function ago(at) {
  return at ? `${span(now() - at)} ago` : "never";
}

// This browser's time zone; the day only when it is not today.
export function moment(at) {
  const when = new Date(at * 1000);
  const today = when.toDateString() === new Date().toDateString();
  const clock = when.toLocaleTimeString("en-GB");
  return today ? clock : `${day(at)} ${clock}`;
}

export function day(at) {
  const when = new Date(at * 1000);
  const two = (value) => String(value).padStart(2, "0");
  return `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;
}

export function shortened(job) {
  return job.slice(0, 8);
}

// What does not print is shown as an escape, as on the command line: it could turn a line around.
export function plain(text) {
  return String(text ?? "").replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, (one) => `\\u${one.codePointAt(0).toString(16).padStart(4, "0")}`);
}
