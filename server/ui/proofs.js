// The last proofs: a list, and one of them in the open with every check and every draw.

import { get, picture } from "./api.js";
import { strip } from "./chart.js";
import { h, say } from "./dom.js";
import { bytes, ends, time, words } from "./format.js";

const SHORT = 6;

export class Proofs {
  constructor(section, dialog) {
    this.section = section;
    this.dialog = dialog;
    this.list = [];
    this.known = null;
    this.body = h("tbody", {});
    this.shortBody = h("tbody", {});
    this.wanted = h("input", { id: "wanted", type: "search", placeholder: "chatcmpl-…", spellcheck: "false", autocomplete: "off" });
    this.note = h("p", { class: "note", role: "status" });
    const look = (event) => {
      event.preventDefault();
      if (this.wanted.value.trim()) this.open(this.wanted.value.trim());
    };
    section.append(h("article", { class: "card" },
      h("div", { class: "row" }, h("h2", {}, "Last proofs"),
        h("form", { class: "search", on: { submit: look } }, h("label", { for: "wanted", class: "unseen" }, "Completion ID"), this.wanted, h("button", { type: "submit" }, "Look up"))),
      h("p", { class: "note" }, "Each strip is one proof: 256 steps from left to right, and how high the draw u stood in the interval of its token. A red line is a draw outside."),
      table(this.body, true), this.note));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }

  /** A table of the newest few, for another view. */
  short() {
    return table(this.shortBody, false);
  }

  async update(state) {
    if (state.last_proof === this.known) return;
    this.known = state.last_proof;
    try {
      const { proofs } = await get("api/proofs");
      this.list = proofs;
      say(this.note, proofs.length === 0 ? "No proof has been judged since the start. A window needs 256 tokens." : "");
      reuse(this.body, proofs, (proof) => this.row(proof, true));
      reuse(this.shortBody, proofs.slice(0, SHORT), (proof) => this.row(proof, false));
    } catch (error) {
      this.known = null;
      say(this.note, error.message);
    }
  }

  row(proof, whole) {
    const open = h("button", { type: "button", class: "link code", on: { click: () => this.open(proof.id, proof) } }, ends(proof.completion_id, 14, 6) || "without an id");
    const cells = [
      h("td", { class: "num" }, time(proof.at)),
      h("td", {}, verdict(proof)),
      h("td", { class: "draws" }, strip(proof.strip)),
      h("td", {}, open),
    ];
    if (whole) {
      cells.push(h("td", {}, proof.tier), h("td", { class: "num" }, proof.request_id), h("td", { class: "num" }, bytes(proof.bytes)));
    }
    return h("tr", { "data-id": proof.id }, ...cells);
  }

  async open(id, listed) {
    const title = h("h2", { id: "proof-title" }, listed ? `Proof ${ends(listed.completion_id, 18, 8)}` : `Proof ${id}`);
    const close = h("button", { type: "button", class: "quiet", on: { click: () => this.dialog.close() } }, "Close");
    const body = h("div", { class: "proof" }, h("p", { class: "empty" }, "Replaying the proof…"));
    this.dialog.replaceChildren(h("div", { class: "row" }, title, close), body);
    this.dialog.showModal();
    const path = `api/proof/${encodeURIComponent(id)}`;
    try {
      const [report, drawing] = await Promise.all([get(path), picture(`${path}/plot.svg`)]);
      body.replaceChildren(...this.report(report, drawing, listed));
    } catch (error) {
      body.replaceChildren(h("p", { class: "problem" }, error.message));
    }
  }

  report(report, drawing, listed) {
    const plot = document.importNode(drawing, true);
    // The picture's own title is the dialog's.
    const { width, height } = plot.viewBox.baseVal;
    plot.setAttribute("viewBox", `0 24 ${width} ${height - 34}`);
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", "For each of the 256 steps, the interval of the chosen token and the draw in it");
    const line = ({ name, value, ok }) => h("div", {}, h("dt", {}, name),
      h("dd", {}, ok == null ? null : h("span", { class: ok ? "ok" : "fail" }, ok ? "✓ " : "✗ FAILED "), value));
    const outcome = report.valid ? "Every check passed." : "This is not a valid proof.";
    return [
      h("p", {}, listed ? verdict(listed) : null, " ", h("strong", {}, outcome), " ", listed ? h("span", { class: "note" }, listed.detail) : null),
      h("figure", { class: "plot", tabindex: "0" }, plot,
        h("figcaption", {}, "Steps from left to right, probability from 0 to 1. Bar: the interval that belongs to the chosen token. Dot: the draw u, which SHA-256 fixed before the logits were known. A dot outside its bar would give a forger away.")),
      h("h3", {}, "Checks"), h("dl", { class: "facts checks" }, ...report.checks.map(line)),
      h("h3", {}, "Claims"), h("dl", { class: "facts checks" }, ...report.claims.map(line)),
    ];
  }
}

function verdict({ verdict: label, accepted, tier }) {
  const kind = accepted ? (label === "block" ? "block" : "share") : "refused";
  const text = accepted ? label : `refused: ${words(label)}`;
  return h("span", { class: `chip ${kind}`, title: tier }, text);
}

function table(body, whole) {
  const names = ["Time", "Verdict", "Draws", "Completion", ...(whole ? ["Claimed", "Job", "Size"] : [])];
  const head = h("thead", {}, h("tr", {}, ...names.map((name) => h("th", { scope: "col" }, name))));
  return h("div", { class: "scroll" }, h("table", {}, head, body));
}

/** Rows that stay keep their nodes, and with them the focus. */
function reuse(body, list, make) {
  const old = new Map([...body.children].map((row) => [row.dataset.id, row]));
  body.replaceChildren(...list.map((proof) => old.get(proof.id) ?? make(proof)));
}
