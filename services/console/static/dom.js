// Elements from plain values, and a patch that leaves alone what has not changed: focus, selection and open details stay.

const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(["svg", "g", "path", "line", "circle", "rect", "text", "title", "polyline"]);
const HANDLERS = ["onclick", "onsubmit", "onchange"];

// A text is always a text: whatever a partner's reason or a column's name says, it is never markup.
export function h(tag, attributes = {}, ...children) {
  const node = DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (HANDLERS.includes(name)) node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    node.append(child instanceof Node ? child : String(child));
  }
}

// Makes `old` look like `fresh`, element by element; `data-key` says which of a list is which.
export function patch(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || keyOf(old) !== keyOf(fresh)) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  patchAttributes(old, fresh);
  patchChildren(old, fresh);
}

function keyOf(node) {
  return node.dataset?.key ?? "";
}

function patchAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) {
    // What a person has opened stays open.
    const own = name === "open" && old.nodeName === "DETAILS";
    if (!fresh.hasAttribute(name) && !own) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) === value) continue;
    // The content security policy takes styles from code, not from attributes.
    if (name === "style") old.style.cssText = fresh.style.cssText;
    else old.setAttribute(name, value);
  }
  for (const name of HANDLERS) old[name] = fresh[name];
}

export function patchChildren(old, fresh) {
  const keyed = new Map([...old.childNodes].filter(keyOf).map((child) => [keyOf(child), child]));
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = keyOf(next);
    const match = key ? keyed.get(key) : at && !keyOf(at) ? at : null;
    if (!match) {
      old.insertBefore(next, at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else old.insertBefore(match, at);
    patch(match, next);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

// -- pieces that several pages have ------------------------------------------------------------------------

export function section(title, ...children) {
  const id = `s-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
  return h("section", { class: "card", "aria-labelledby": id, "data-key": id }, h("h2", { id }, title), children);
}

export function empty(title, ...text) {
  return h("div", { class: "empty" }, h("p", {}, h("strong", {}, title)), h("p", {}, text));
}

export function chip(text, sort = "") {
  return h("span", { class: `chip ${sort}` }, text);
}

export function pairs(list) {
  return h(
    "dl",
    { class: "pairs" },
    list.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

// The same for short values, several beside each other.
export function grid(list) {
  return h("dl", { class: "grid" }, list.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

// `columns`: [heading, "number" or ""]; `rows`: lists of cells. Scrolls sideways by itself, by keyboard too.
export function table(caption, columns, rows, attributes = {}) {
  return h(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": caption, ...attributes },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, columns.map(([name, sort]) => h("th", { scope: "col", class: sort }, name)))),
      h(
        "tbody",
        {},
        rows.map((row) => {
          const bad = row.bad ? "bad" : null;
          return h("tr", { class: bad }, row.cells.map((cell, place) => h("td", { class: columns[place][1] }, cell)));
        }),
      ),
    ),
  );
}

// `share`: 0 to 1, or null while nothing is known.
export function meter(label, share, text) {
  const width = share === null ? 0 : Math.max(0, Math.min(1, share));
  const bar = h("div", { class: "fill" });
  bar.style.inlineSize = `${(100 * width).toFixed(1)}%`;
  return h(
    "div",
    {
      class: "meter",
      role: "progressbar",
      "aria-label": label,
      "aria-valuemin": "0",
      "aria-valuemax": "100",
      "aria-valuenow": share === null ? null : Math.round(100 * width),
      "aria-valuetext": text,
    },
    bar,
  );
}
