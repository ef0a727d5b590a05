// Elements without markup: text never becomes anything but text.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `on` holds listeners; `true` is an attribute without a value, `false` and null are none. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value !== false && value != null) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** Sets several attributes. */
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
}

/** Replaces the text if it has changed: screen readers and selections stay undisturbed. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The value at a path such as `status.context.height`, or undefined: panels show what exists. */
export function pick(object, path) {
  return path.split(".").reduce((value, name) => value?.[name], object);
}

/** A card with a heading. */
export function card(title, ...children) {
  return h("article", { class: "card" }, h("h2", {}, title), ...children);
}

/** Pairs of a name and a value whose node can be kept up to date. */
export class Facts {
  constructor() {
    this.node = h("dl", { class: "facts" });
    this.rows = new Map();
  }

  /** Shows `value` under `name`; undefined and null hide the pair. */
  show(name, value, kind = "") {
    let row = this.rows.get(name);
    if (!row) {
      row = { term: h("dt", {}, name), value: h("dd", {}) };
      this.rows.set(name, row);
      this.node.append(h("div", {}, row.term, row.value));
    }
    const missing = value == null || value === "";
    row.term.parentElement.hidden = missing;
    row.value.className = kind;
    if (!missing) say(row.value, String(value));
  }
}
