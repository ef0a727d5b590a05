// What can be changed: the model that is mined, and the configuration file.

import { get, post } from "./api.js";
import { Facts, card, h, pick, say } from "./dom.js";

const SWITCH = "../v1/mining/active-model";
const BACK = "../v1/rollout/rollback";

export class Setup {
  constructor(section) {
    this.model = new ModelSwitch();
    this.wizard = new Wizard();
    section.append(h("div", { class: "grid two setup" }, this.wizard.node, this.model.node));
  }

  /** After each login: another key may be allowed more. */
  open() {
    this.wizard.load();
  }

  update({ status }) {
    this.model.update(status);
    this.wizard.suggest(status);
  }
}

/** A field with its label, a hint and a place for what is wrong with it. */
function field(id, label, hint, attributes = {}) {
  const input = h("input", { id, name: id, type: "text", spellcheck: "false", autocomplete: "off", "aria-describedby": `${id}-hint`, ...attributes });
  const note = h("p", { id: `${id}-hint`, class: "hint" }, hint);
  return { input, hint, note, node: h("div", { class: "field" }, h("label", { for: id }, label), input, note) };
}

class ModelSwitch {
  constructor() {
    this.facts = new Facts();
    this.known = h("datalist", { id: "models" });
    this.name = field("switch-model", "Mine another model", "name@commit, as the chain has registered it", { list: "models", placeholder: "org/name@commit" });
    this.force = h("input", { type: "checkbox", id: "switch-now" });
    this.outcome = h("p", { class: "outcome", role: "status" });
    this.button = h("button", { type: "submit", class: "main" }, "Switch");
    this.auto = h("button", { type: "button", on: { click: () => this.send("", "") } }, "Let the registry choose");
    this.back = h("button", { type: "button", hidden: true, on: { click: () => this.takeBack() } }, "Back");
    this.form = h("form", { hidden: true, on: { submit: (event) => this.submit(event) } }, this.name.node, this.known,
      h("label", { class: "check", for: "switch-now" }, this.force, "now, not at the next block: windows under way are lost"),
      h("div", { class: "actions" }, this.button, this.auto, this.back));
    this.note = h("p", { class: "note" });
    this.node = card("Active model", this.facts.node, this.form, this.note, this.outcome);
  }

  show({ model_name: name, model_commit: commit, source, pending_switch: pending, switch_in_progress: busy }) {
    this.facts.show("Mined now", name ? `${name}@${commit}` : "the registry's choice", name ? "code" : "");
    this.facts.show("Chosen by", { env: "configuration", persisted: "an earlier run", runtime: "a switch" }[source] ?? source);
    const to = pending?.model_name ? `${pending.model_name}@${pending.model_commit}` : "the registry's choice";
    this.facts.show("Switching", busy ? "under way" : pending ? `at the next block, to ${to}` : null);
  }

  update(status) {
    const active = status.active_model ?? pick(status, "proxy.active_model");
    this.offerBack(pick(status, "proxy.rollout.previous_model"));
    const can = typeof active?.source === "string";
    this.form.hidden = !can;
    say(this.note, can ? "" : "This worker keeps its model while it runs. Set it in the configuration and start it again.");
    if (can) this.show(active);
    else this.facts.show("Mined now", pick(status, "context.expected_model_identifier") ?? "the registry's choice", "code");
    const listed = pick(status, "proxy.model_sync.sample_models") ?? pick(status, "models.registered") ?? [];
    const names = listed.map((model) => (typeof model === "string" ? model : `${model.model_name ?? model.name}@${model.model_commit ?? model.commit}`));
    if (status.chain?.model) names.push(status.chain.model);
    const text = names.join("\n");
    if (text !== this.listed) {
      this.listed = text;
      this.known.replaceChildren(...[...new Set(names)].map((value) => h("option", { value })));
    }
  }

  /** What was mined before is one press away. */
  offerBack(previous) {
    this.back.hidden = !previous;
    if (previous) say(this.back, `Back to ${previous}, now`);
  }

  async takeBack() {
    this.back.disabled = true;
    try {
      const { to, switch: running } = await post(BACK, { of: "model" });
      this.told("good", running ? "The switch is under way." : `Back to ${to}.`);
    } catch (error) {
      this.told("bad", error.message);
    } finally {
      this.back.disabled = false;
    }
  }

  submit(event) {
    event.preventDefault();
    const text = this.name.input.value.trim();
    const at = text.lastIndexOf("@");
    if (at <= 0 || at === text.length - 1) return this.told("bad", "Write the model as name@commit.");
    return this.send(text.slice(0, at), text.slice(at + 1));
  }

  async send(name, commit) {
    this.button.disabled = this.auto.disabled = true;
    try {
      const { active_model: active } = await post(SWITCH, { model_name: name, model_commit: commit, force_switch: this.force.checked });
      if (active) this.show(active);
      const busy = active?.switch_in_progress ? "The switch is under way." : "Switched.";
      this.told("good", active?.switch_scheduled ? "The switch happens at the next block." : busy);
    } catch (error) {
      this.told("bad", error.message);
    } finally {
      this.button.disabled = this.auto.disabled = false;
    }
  }

  told(kind, text) {
    this.outcome.dataset.kind = kind;
    say(this.outcome, text);
  }
}

class Wizard {
  constructor() {
    this.ready = false;
    this.fields = {
      broker_url: field("broker_url", "Broker", "Address of the broker, from your provider", { placeholder: "wss://broker.example/v1/ws", inputmode: "url" }),
      token: field("token", "Provider token", "Starts with eyJ. It is written to the file and never shown again", { type: "password" }),
      model: field("model", "Model", "name@commit; empty: the registry's choice", { placeholder: "org/name@commit" }),
      engine_url: field("engine_url", "Engine", "The inference server behind this worker", { placeholder: "http://127.0.0.1:8000", inputmode: "url", required: true }),
    };
    const mode = (value, title, text) => h("label", { class: "option" },
      h("input", { type: "radio", name: "worker_mode", value, on: { change: () => this.arrange() } }),
      h("span", {}, h("strong", {}, title), h("small", {}, text)));
    this.brokerFields = h("div", {}, this.fields.broker_url.node, this.fields.token.node);
    this.path = h("p", { class: "note" });
    this.outcome = h("div", { class: "outcome", role: "status" });
    this.button = h("button", { type: "submit", class: "main" }, "Write the file");
    this.form = h("form", { novalidate: true, on: { submit: (event) => this.submit(event) } },
      h("fieldset", { class: "options" }, h("legend", {}, "Where jobs come from"),
        mode("broker", "A broker", "outbound connection only; needs an address and a token"),
        mode("standalone", "My own node", "a node on this machine hands out jobs")),
      this.brokerFields, this.fields.engine_url.node, this.fields.model.node,
      h("div", { class: "actions" }, this.button));
    this.node = card("Configuration", this.path, this.form, this.outcome);
  }

  /** What the worker runs with now, for a file that says nothing yet. */
  suggest(status) {
    if (this.suggested || !this.ready) return;
    this.suggested = true;
    const now = { engine_url: pick(status, "proxy.target_url"), model: pick(status, "context.expected_model_identifier") };
    for (const [name, value] of Object.entries(now)) {
      const { input } = this.fields[name];
      if (input.value === "" && value && document.activeElement !== input) input.value = value;
    }
  }

  get mode() {
    return this.form.elements.worker_mode.value || "standalone";
  }

  arrange() {
    this.brokerFields.hidden = this.mode !== "broker";
  }

  async load() {
    try {
      const { path, values } = await get("api/config");
      this.path.replaceChildren(values.exists ? "Changes " : "Writes a new file: ", h("span", { class: "code" }, path));
      this.form.elements.worker_mode.value = values.worker_mode === "broker" ? "broker" : "standalone";
      for (const name of ["broker_url", "model", "engine_url"]) this.fields[name].input.value = values[name] ?? "";
      this.fields.token.input.placeholder = values.has_token ? "set; leave empty to keep it" : "eyJ…";
      this.form.hidden = false;
      this.ready = true;
      this.arrange();
    } catch (error) {
      this.form.hidden = true;
      say(this.path, error.message);
    }
  }

  async submit(event) {
    event.preventDefault();
    this.clear();
    this.button.disabled = true;
    const values = { worker_mode: this.mode };
    for (const [name, { input }] of Object.entries(this.fields)) values[name] = input.value.trim();
    try {
      const { path, warnings } = await post("api/config", values);
      this.fields.token.input.value = "";
      await this.load();
      this.told("good", h("p", {}, "Written. It holds from the next start on: ", h("span", { class: "code" }, `tensorpow serve --config ${path}`)),
        ...warnings.map((warning) => h("p", {}, `Note: ${warning}.`)));
    } catch (error) {
      this.refused(error.message);
    } finally {
      this.button.disabled = false;
    }
  }

  /** The worker names the field first: the message goes under it. */
  refused(message) {
    const at = message.indexOf(": ");
    const wrong = this.fields[message.slice(0, at)];
    if (!wrong) return this.told("bad", h("p", {}, message));
    wrong.input.setAttribute("aria-invalid", "true");
    say(wrong.note, message.slice(at + 2));
    wrong.note.className = "hint problem";
    return wrong.input.focus();
  }

  clear() {
    this.outcome.replaceChildren();
    for (const { input, note, hint } of Object.values(this.fields)) {
      input.removeAttribute("aria-invalid");
      note.className = "hint";
      say(note, hint);
    }
  }

  told(kind, ...nodes) {
    this.outcome.dataset.kind = kind;
    this.outcome.replaceChildren(...nodes);
  }
}
