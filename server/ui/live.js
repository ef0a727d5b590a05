// What the worker does right now.

import { LatencyBars, ReasonBars, Spark, TimeLine, quantile, smooth } from "./chart.js";
import { Facts, card, h, pick, say } from "./dom.js";
import { brief, bytes, caption, count, duration, ends, latency, rate, words } from "./format.js";

/** Parts of `/status` that have a place of their own here. */
const PLACED = new Set([
  "version", "uptime_seconds", "context", "vdf", "proxy", "proofs", "chain", "engines", "active_model",
  "priority", "queue", "slo", "throughput", "totals",
]);

/** A number with its name, and a line of detail under it. */
class Figure {
  constructor(name, kind = "") {
    this.value = h("b", {}, "–");
    this.detail = h("small", {});
    this.node = h("div", { class: `figure ${kind}` }, h("span", {}, name), this.value, this.detail);
  }

  show(value, detail = "") {
    say(this.value, value);
    say(this.detail, detail);
  }
}

export class Live {
  constructor(section, proofs) {
    this.tokens = new Figure("Tokens per second", "lead");
    this.windows = new Figure("Windows");
    this.shares = new Figure("Shares", "share");
    this.blocks = new Figure("Blocks", "block");
    this.flight = new Figure("In flight");
    this.line = new TimeLine();
    const legend = h("p", { class: "legend" },
      h("span", { class: "tokens" }, "tokens per second"), h("span", { class: "share" }, "share"),
      h("span", { class: "block" }, "block"), h("span", { class: "refused" }, "refused"));
    const figures = [this.tokens, this.windows, this.shares, this.blocks, this.flight].map(({ node }) => node);

    this.chain = new Facts();
    this.engines = h("ul", { class: "engines" });
    this.queue = new Facts();
    this.busy = new Spark("requests in flight");
    this.bars = new LatencyBars();
    this.quantiles = h("p", { class: "note" });
    this.kind = "first_byte";
    const choice = (kind, text) => h("label", {},
      h("input", { type: "radio", name: "latency", value: kind, checked: kind === this.kind, on: { change: () => this.choose(kind) } }),
      h("span", {}, text));
    const choices = h("fieldset", { class: "choices" }, h("legend", { class: "unseen" }, "Latency of"),
      choice("first_byte", "first byte"), choice("whole", "whole answer"), choice("proof", "proof"));

    this.mined = new ReasonBars("No requests yet.");
    this.fate = new ReasonBars("No proofs yet.");
    this.kept = h("p", { class: "note" });
    this.more = new Map();
    this.extras = h("div", { class: "grid extras", hidden: true });
    section.append(
      h("article", { class: "card hero" }, h("h2", { class: "unseen" }, "Now"), h("div", { class: "figures" }, ...figures), this.line.node, legend),
      h("div", { class: "grid three" },
        card("Chain", this.chain.node),
        h("article", { class: "card" }, h("h2", {}, "Latency"), choices, this.bars.node, this.quantiles),
        card("Engines", this.engines, this.busy.node, this.queue.node)),
      h("div", { class: "grid two" },
        card("What became of requests", this.mined.node),
        card("What became of proofs", this.fate.node, this.kept)),
      h("article", { class: "card" }, h("div", { class: "row" }, h("h2", {}, "Last proofs"), h("a", { href: "#proofs" }, "All of them")), proofs.short()),
      this.extras,
    );
  }

  shown() {
    this.line.draw();
  }

  choose(kind) {
    this.kind = kind;
    this.latencies(this.state);
  }

  update(state, history) {
    this.state = state;
    this.figures(state, history);
    this.line.update(history);
    this.place(state, history);
    this.latencies(state);
    this.machines(state, history);
    this.requests(state.totals);
    this.proofs(state);
    this.others(state.status);
  }

  figures({ totals }, history) {
    const { tokens = [], at = [] } = history;
    const now = mean(tokens, 10);
    const seconds = Math.max(1, (at.at(-1) ?? 0) - (at[0] ?? 0));
    const minute = (list = []) => `${rate((list.reduce((sum, value) => sum + value, 0) / seconds) * 60)} a minute`;
    this.tokens.show(rate(now), `highest ${rate(Math.max(0, ...smooth(tokens, 10)))}, ${brief(totals.tokens.output)} in all`);
    const windows = (tokens.reduce((sum, value) => sum + value, 0) / 256 / seconds) * 60;
    this.windows.show(brief(totals.windows), `${rate(windows)} a minute`);
    this.shares.show(brief(totals.shares), minute(history.shares));
    this.blocks.show(brief(totals.blocks), minute(history.blocks));
    const requests = Object.values(totals.requests).reduce((sum, value) => sum + value, 0);
    this.flight.show(count(totals.active), `${brief(requests)} done`);
  }

  place({ status, ready }, { tick = [] }) {
    const { context = {}, chain, vdf } = status;
    this.chain.show("Source", pick(ready, "mining.source") ?? "none, inference only");
    this.chain.show("Next block", context.height == null ? null : count(context.height));
    this.chain.show("Parent", chain?.tip ? ends(chain.tip, 12, 8) : context.block_hash, "code");
    this.chain.show("VDF tick", context.has_vdf_proof ? count(context.vdf_tick) : "proving…");
    const pace = vdf?.ticks_per_second ?? tickRate(tick.slice(-10));
    this.chain.show("VDF rate", pace > 0 ? `${brief(pace)} ticks/s` : null);
    this.chain.show("Job", context.request_id == null ? "none yet" : `${context.request_id}, ${duration(context.age_seconds ?? 0)} old`);
    this.chain.show("Model", context.expected_model_identifier ? modelText(context.expected_model_identifier) : "the registry's choice");
    this.chain.show("Cooldown", context.cooldown_remaining_seconds > 0 ? duration(context.cooldown_remaining_seconds) : null);
  }

  latencies({ latency: { bounds, seconds, ...kinds } }) {
    const counts = kinds[this.kind] ?? [];
    this.bars.update({ bounds, counts });
    const [middle, rare] = [0.5, 0.99].map((share) => quantile(bounds, counts, share));
    const minutes = Math.max(1, Math.round(seconds / 60));
    const text = `half within ${latency(middle ?? 0)}, 99 % within ${latency(rare ?? 0)}, last ${minutes} min`;
    say(this.quantiles, middle == null ? "" : text);
  }

  machines({ status, totals }, history) {
    const { proxy = {} } = status;
    const listed = status.engines ?? proxy.engines ?? [{ url: proxy.target_url, health: proxy.engine }];
    const engines = Array.isArray(listed) ? listed : Object.entries(listed).map(([name, engine]) => ({ name, ...engine }));
    const text = JSON.stringify(engines);
    if (text !== this.known) {
      this.known = text;
      this.engines.replaceChildren(...engines.map((engine) => {
        const state = String(engine.health ?? engine.state ?? "unknown");
        const good = state === "up" || state === "ok" || state === "healthy";
        const more = ["kind", "model", "breaker", "role"].map((name) => engine[name]).filter((value) => typeof value === "string");
        return h("li", {}, h("span", { class: "pill", "data-kind": good ? "good" : "bad" }, state),
          h("span", { class: "code" }, engine.url ?? engine.name ?? "engine"), h("small", {}, more.join(", ")));
      }));
    }
    this.busy.update(history.active ?? []);
    this.queue.show("In flight", count(proxy.active_requests ?? totals.active));
    this.queue.show("Busiest", count(Math.max(0, ...(history.active ?? []))));
    this.queue.show("Prompts", `${rate(mean(history.input ?? [], 60))} tokens/s`);
    this.queue.show("Failed", count((totals.requests.engine_error ?? 0) + (totals.requests.engine_broke ?? 0)));
    for (const [name, value] of Object.entries(proxy.priority ?? {})) this.queue.show(caption(name), plain(value));
    for (const [name, value] of Object.entries(status.queue ?? proxy.queue ?? {})) this.queue.show(caption(name), plain(value));
  }

  requests({ injected, not_mined: reasons, requests, errors }) {
    const rows = [["mined", injected.mining ?? 0, "block"], ["audited", injected.audit ?? 0, "share"]];
    for (const [reason, value] of Object.entries(reasons)) rows.push([`served unmined: ${words(reason)}`, value]);
    for (const outcome of ["engine_error", "engine_broke", "client_gone"]) {
      rows.push([words(outcome), requests[outcome] ?? 0, outcome === "client_gone" ? "plain" : "refused"]);
    }
    for (const [code, value] of Object.entries(errors)) rows.push([`refused: ${words(code)}`, value, "refused"]);
    this.mined.update(rows);
  }

  proofs({ totals, status }) {
    const rows = [["became blocks", totals.blocks, "block"], ["credited as shares", totals.shares, "share"], ["sent to the node", totals.sent, "share"], ["audits filed", totals.received.audit ?? 0]];
    for (const [reason, value] of Object.entries(totals.refused)) rows.push([`refused: ${words(reason)}`, value, "refused"]);
    for (const [reason, value] of Object.entries(totals.dropped)) rows.push([`not forwarded: ${words(reason)}`, value, "refused"]);
    this.fate.update(rows);
    const { proofs: kept, bytes: size, spool } = status.proofs ?? {};
    const parts = kept == null ? [] : [`${count(kept)} in memory, ${bytes(size ?? 0)}`];
    if (spool) {
      const where = { durable: "on disk", memory_only: "nothing on disk", degraded: "the disk fails" }[spool.health] ?? spool.health;
      parts.push(spool.health === "durable" ? `${count(spool.entries)} ${where}, ${bytes(spool.bytes)}` : where);
      if (spool.open > 0) parts.push(`${count(spool.open)} still to deliver`);
      if (spool.dead > 0) parts.push(`${count(spool.dead)} dead letters`);
    }
    say(this.kept, parts.join("; "));
  }

  /** What is left of the promises: a bar for each objective and window. */
  budgets(slo) {
    if (!Array.isArray(slo) || slo.length === 0) return;
    if (!this.promises) {
      this.promises = new ReasonBars("No requests yet.");
      this.extras.prepend(card("Error budgets", this.promises.node));
      this.extras.hidden = false;
    }
    this.promises.update(slo.map(({ objective, window, left, burn_rate: burn, requests }) => {
      const kind = left < 0.1 ? "refused" : left < 0.5 ? "share" : "block";
      const text = requests > 0 ? `${Math.round(left * 100)} % left, burns ${rate(burn)}×` : "no requests";
      return [`${words(String(objective))}, ${window}`, Math.max(0, left), kind, text];
    }), 1);
  }

  /** Whatever else `/status` tells, a card for each part. */
  others(status) {
    this.budgets(status.slo ?? status.proxy?.slo);
    const parts = Object.entries({ ...status.proxy, ...status })
      .filter(([name, part]) => !PLACED.has(name) && part && typeof part === "object" && !Array.isArray(part) && Object.keys(part).length > 0);
    if (parts.length > 0) this.extras.hidden = false;
    for (const [name, part] of parts) {
      let facts = this.more.get(name);
      if (!facts) {
        facts = new Facts();
        this.more.set(name, facts);
        this.extras.append(card(caption(name), facts.node));
      }
      for (const [key, value] of leaves(part)) facts.show(caption(key), plain(value));
    }
  }
}

/** The mean of the last `most` values. */
function mean(values, most) {
  const last = values.slice(-most);
  return last.reduce((sum, value) => sum + value, 0) / Math.max(1, last.length);
}

/** Ticks a second while a prover goes on; 0 while it rests or has begun again. */
function tickRate(ticks) {
  const gained = ticks.at(-1) - ticks[0];
  return gained > 0 && ticks[0] > 0 ? gained / (ticks.length - 1) : 0;
}

/** The values of a document, two levels deep. */
function leaves(part) {
  return Object.entries(part).flatMap(([name, value]) =>
    value && typeof value === "object" && !Array.isArray(value)
      ? Object.entries(value).map(([inner, leaf]) => [`${name} ${inner}`, leaf])
      : [[name, value]]);
}

function plain(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? count(value) : rate(value);
  if (Array.isArray(value)) return value.length === 0 ? null : value.filter((item) => typeof item !== "object").slice(0, 4).join(", ");
  return value && typeof value === "object" ? null : value;
}

function modelText(identifier) {
  const at = identifier.lastIndexOf("@");
  return at < 0 ? identifier : `${identifier.slice(0, at)} @ ${identifier.slice(at + 1, at + 9)}`;
}
