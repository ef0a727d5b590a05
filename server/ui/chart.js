// Charts as SVG: a time line with the proofs under it, a histogram, bars by reason, and the strip
// of a proof's draws. Colours come from the style sheet, numbers from the caller.

import { h, s, say, set } from "./dom.js";
import { brief, count, latency, rate, time } from "./format.js";

/** Steps for an axis up to `top`: 1, 2 or 5 times a power of ten. */
function steps(top, most) {
  const rough = top / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  return { step, top: Math.ceil(top / step) * step };
}

/** A mean over the last `width` values at every place: single seconds are all noise. */
export function smooth(values, width) {
  let sum = 0;
  return values.map((value, i) => {
    sum += value - (i >= width ? values[i - width] : 0);
    return Math.max(0, sum) / Math.min(i + 1, width);
  });
}

const TOP = 14;
const LANE = 26;
const AXIS = 20;

/** Tokens a second over the last minutes, and a lane with a mark for every judged proof. */
export class TimeLine {
  constructor() {
    this.grid = s("g", { class: "grid" });
    this.area = s("path", { class: "area" });
    this.line = s("path", { class: "line" });
    this.marks = s("g", { class: "marks" });
    this.cursor = s("path", { class: "cursor", visibility: "hidden" });
    this.svg = s("svg", { role: "img", class: "timeline" }, this.grid, this.area, this.line, this.marks, this.cursor);
    this.readout = h("p", { class: "readout", hidden: true });
    this.node = h("div", { class: "chart" }, this.svg, this.readout);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  update(history) {
    this.history = history;
    this.draw();
  }

  draw() {
    const { at = [], tokens = [] } = this.history ?? {};
    const width = Math.floor(this.node.clientWidth);
    const height = Math.floor(this.node.clientHeight);
    if (width < 50 || at.length < 2) return;
    const bottom = height - AXIS - LANE;
    const last = at.at(-1);
    const span = Math.min(600, Math.max(60, last - at[0]));
    const shown = smooth(tokens, 5);
    const scale = steps(Math.max(...shown, 1) * 1.05, 4);
    this.x = (moment) => width - ((last - moment) / span) * width;
    const y = (value) => bottom - (value / scale.top) * (bottom - TOP);
    set(this.svg, { viewBox: `0 0 ${width} ${height}`, width, height });
    this.grid.replaceChildren(...this.rules(scale, y, width), ...this.minutes(last, span, height));
    const points = at.map((moment, i) => `${this.x(moment).toFixed(1)} ${y(shown[i]).toFixed(1)}`).join("L");
    this.line.setAttribute("d", `M${points}`);
    this.area.setAttribute("d", `M${this.x(at[0]).toFixed(1)} ${bottom}L${points}L${width} ${bottom}Z`);
    this.marks.replaceChildren(...this.proofs(bottom + LANE / 2 + 2));
    this.height = height;
    const sums = ["shares", "blocks", "refused"].map((name) => this.sum(name));
    this.svg.setAttribute("aria-label", `Tokens per second over the last ${Math.round(span / 60)} minutes: now ` +
      `${rate(shown.at(-1))}, at most ${rate(Math.max(...shown))}. Proofs: ${sums[0]} shares, ${sums[1]} blocks, ${sums[2]} refused.`);
  }

  sum(name) {
    return (this.history[name] ?? []).reduce((sum, value) => sum + value, 0);
  }

  rules({ step, top }, y, width) {
    const nodes = [];
    for (let value = 0; value <= top + step / 2; value += step) {
      nodes.push(s("path", { d: `M0 ${y(value).toFixed(1)}H${width}` }));
      if (value > 0) nodes.push(s("text", { x: 2, y: y(value) - 4 }, brief(value)));
    }
    return nodes;
  }

  minutes(last, span, height) {
    const every = span > 300 ? 120 : span > 120 ? 60 : 15;
    const nodes = [];
    for (let ago = every; ago < span; ago += every) {
      const text = ago % 60 === 0 ? `−${ago / 60} min` : `−${ago} s`;
      nodes.push(s("text", { x: this.x(last - ago), y: height - 5, "text-anchor": "middle" }, text));
    }
    nodes.push(s("text", { x: this.x(last) - 2, y: height - 5, "text-anchor": "end" }, "now"));
    return nodes;
  }

  /** Shapes differ, not colours alone: a bar for shares, a diamond for a block, a cross for a refusal. */
  proofs(middle) {
    const { at, shares = [], blocks = [], refused = [] } = this.history;
    const marks = [];
    at.forEach((moment, i) => {
      const x = this.x(moment).toFixed(1);
      if (shares[i] > 0) {
        const half = Math.min(3 + shares[i], 9);
        marks.push(s("path", { class: "share", d: `M${x} ${middle - half}V${middle + half}` }));
      }
      if (refused[i] > 0) marks.push(s("path", { class: "refused", d: `M${x} ${middle}m-3 -3l6 6m0 -6l-6 6` }));
      if (blocks[i] > 0) marks.push(s("path", { class: "block", d: `M${x} ${middle - 7}l5 7l-5 7l-5 -7Z` }));
    });
    return marks;
  }

  point(event) {
    const { at } = this.history ?? {};
    if (!at || at.length < 2) return;
    const x = event.clientX - this.svg.getBoundingClientRect().left;
    let nearest = at.length - 1;
    while (nearest > 0 && this.x(at[nearest]) > x) nearest -= 1;
    set(this.cursor, { d: `M${this.x(at[nearest]).toFixed(1)} ${TOP}V${this.height - AXIS}`, visibility: "visible" });
    const parts = [time(at[nearest] * 1000), `${rate(this.history.tokens[nearest])} tokens/s`];
    for (const name of ["shares", "blocks", "refused"]) {
      const value = this.history[name]?.[nearest];
      if (value > 0) parts.push(`${value} ${value === 1 ? name.replace(/s$/, "") : name}`);
    }
    this.readout.hidden = false;
    say(this.readout, parts.join(" · "));
  }

  leave() {
    this.cursor.setAttribute("visibility", "hidden");
    this.readout.hidden = true;
  }
}

/** A small line of one value over the last minutes. */
export class Spark {
  constructor(name) {
    this.name = name;
    this.area = s("path", { class: "area" });
    this.line = s("path", { class: "line", "vector-effect": "non-scaling-stroke" });
    this.node = s("svg", { class: "timeline spark", role: "img", preserveAspectRatio: "none", viewBox: "0 0 100 30" }, this.area, this.line);
  }

  update(values) {
    if (values.length < 2) return;
    const most = Math.max(1, ...values);
    const points = values.map((value, i) => `${((i / (values.length - 1)) * 100).toFixed(2)} ${(29 - (value / most) * 27).toFixed(2)}`).join("L");
    this.line.setAttribute("d", `M${points}`);
    this.area.setAttribute("d", `M0 30L${points}L100 30Z`);
    this.node.setAttribute("aria-label", `${this.name}: now ${count(values.at(-1))}, at most ${count(most)}`);
  }
}

/** The value below which `share` of the observations lie, in proportion inside its bucket. */
export function quantile(bounds, counts, share) {
  const wanted = counts.reduce((sum, n) => sum + n, 0) * share;
  if (wanted === 0) return null;
  let below = 0;
  for (let i = 0; i < bounds.length; i += 1) {
    if (below + counts[i] >= wanted) {
      const low = i > 0 ? bounds[i - 1] : 0;
      return low + (bounds[i] - low) * ((wanted - below) / counts[i]);
    }
    below += counts[i];
  }
  return bounds.at(-1);
}

/** Latencies by bucket. */
export class LatencyBars {
  constructor() {
    this.node = h("div", { class: "bars", role: "img" });
  }

  update({ bounds, counts }) {
    const filled = counts.flatMap((n, i) => (n > 0 ? [i] : []));
    if (filled.length === 0) {
      this.node.replaceChildren(h("p", { class: "empty" }, "No answers in the last minutes."));
      this.node.setAttribute("aria-label", "no answers in the last minutes");
      return;
    }
    const from = Math.max(0, Math.min(filled[0] - 1, counts.length - 7));
    const to = Math.min(counts.length - 1, Math.max(filled.at(-1) + 1, from + 6));
    const most = Math.max(...counts);
    const bars = [];
    for (let i = from; i <= to; i += 1) {
      const label = i < bounds.length ? latency(bounds[i]) : `> ${latency(bounds.at(-1))}`;
      const tall = counts[i] > 0 ? Math.max(2, (counts[i] / most) * 100) : 0;
      const bar = s("svg", { viewBox: "0 0 10 100", preserveAspectRatio: "none", "aria-hidden": "true" },
        s("rect", { x: 0, y: 100 - tall, width: 10, height: tall }));
      bars.push(h("div", { title: `up to ${label}: ${count(counts[i])}` }, bar, h("span", {}, label)));
    }
    this.node.replaceChildren(...bars);
    this.node.setAttribute("aria-label", `latencies from ${latency(from > 0 ? bounds[from - 1] : 0)} on, ` +
      `most often up to ${latency(bounds[counts.indexOf(most)] ?? bounds.at(-1))}`);
  }
}

/** Rows of a name, a bar and a count; `rows` are [name, value, kind, text instead of the count]. */
export class ReasonBars {
  constructor(empty) {
    this.empty = empty;
    this.node = h("ul", { class: "reasons" });
  }

  update(rows, whole) {
    const shown = rows.filter(([, value, , text]) => value > 0 || text);
    const most = whole ?? Math.max(1, ...shown.map(([, value]) => value));
    if (shown.length === 0) return this.node.replaceChildren(h("li", { class: "empty" }, this.empty));
    return this.node.replaceChildren(...shown.map(([name, value, kind = "plain", text = count(value)]) => {
      const wide = Math.min(100, Math.max(0.8, (value / most) * 100));
      const bar = s("svg", { viewBox: "0 0 100 4", preserveAspectRatio: "none", class: kind, "aria-hidden": "true" },
        s("rect", { width: 100, height: 4, class: "rail" }), s("rect", { width: wide, height: 4 }));
      return h("li", {}, h("span", {}, name), h("b", {}, text), bar);
    }));
  }
}

/** A proof in small: every step a dot, as high as the draw stands in its interval. */
export function strip(digits) {
  const inside = [];
  const outside = [];
  [...digits].forEach((digit, i) => {
    if (digit === "!") outside.push(`M${i} 0v11`);
    else inside.push(`M${i} ${10 - Number(digit)}v1`);
  });
  return s("svg", { class: "strip", viewBox: `0 0 ${Math.max(digits.length, 1)} 11`, preserveAspectRatio: "none", "aria-hidden": "true" },
    s("path", { class: "inside", d: inside.join("") }), s("path", { class: "outside", d: outside.join("") }));
}
