// The frame around the views: connection, key, theme, and which view is shown.

import { Refused, follow, forgetKey, get, hasKey, keepKey } from "./api.js";
import { say } from "./dom.js";
import { duration, words } from "./format.js";
import { Live } from "./live.js";
import { Proofs } from "./proofs.js";
import { Setup } from "./setup.js";

const element = (id) => document.getElementById(id);
const proofs = new Proofs(element("proofs"), element("proof"));
const views = { live: new Live(element("live"), proofs), proofs, setup: new Setup(element("setup")) };

/** Samples of the last minutes, a list for each value. */
let history = { at: [] };
let running = null;
let retry = 1000;

function remember(sample) {
  if (!sample || sample.at <= (history.at.at(-1) ?? 0)) return;
  for (const [name, value] of Object.entries(sample)) (history[name] ??= []).push(value);
  for (const list of Object.values(history)) if (list.length > 600) list.shift();
}

function show(state) {
  remember(state.sample);
  health(state);
  for (const view of Object.values(views)) view.update(state, history);
  const { version, uptime_seconds: uptime } = state.status;
  say(element("foot"), `tensorpow ${version ?? ""}, running for ${duration(uptime ?? 0)}`);
}

/** What the worker does at this moment, in one line. */
function health({ ready }) {
  const mining = ready.mining ?? {};
  if (!ready.ready) {
    const why = (ready.reasons ?? []).map(({ name, detail }) => (detail ? `${name} ${detail}` : name));
    return pill("bad", `Not ready: ${why.join(", ")}`);
  }
  if (mining.ready) return pill("good", "Serving and mining");
  if (!mining.source) return pill("idle", "Serving, inference only");
  return pill("idle", `Serving, not mining: ${words(mining.reason ?? "unknown")}`);
}

function pill(kind, text) {
  element("health").dataset.kind = kind;
  say(element("health"), text);
}

/** Loads the state, then follows it; begins again by itself when the connection is lost. */
async function connect() {
  running?.abort();
  const control = new AbortController();
  running = control;
  try {
    const state = await get("api/state");
    history = state.history ?? { at: [] };
    element("leave").hidden = !hasKey();
    show(state);
    views.setup.open();
    retry = 1000;
    await follow(show, control.signal);
    throw new Refused(0, "the worker has ended the stream");
  } catch (error) {
    if (control.signal.aborted) return;
    if (error instanceof Refused && error.status === 401) return login(error);
    if (error instanceof Refused && error.status === 403) return pill("bad", error.message);
    pill("bad", `No connection, trying again in ${duration(retry / 1000)}`);
    setTimeout(() => running === control && !document.hidden && connect(), retry);
    retry = Math.min(retry * 2, 10000);
  }
}

function login(error) {
  pill("idle", "Waiting for the key");
  say(element("login-error"), hasKey() ? error.message : "");
  element("key").value = "";
  if (!element("login").open) element("login").showModal();
}

element("login").addEventListener("close", () => {
  const key = element("key").value.trim();
  if (key) keepKey(key);
  connect();
});

element("leave").addEventListener("click", () => {
  forgetKey();
  location.reload();
});

/** The other theme than the one shown, kept for the next visit. */
element("theme").addEventListener("click", () => {
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const root = document.documentElement;
  const next = (root.dataset.theme ?? system) === "dark" ? "light" : "dark";
  root.dataset.theme = next;
  try {
    localStorage.setItem("tensorpow-theme", next);
  } catch {
    // Then it holds for this visit.
  }
});

function route() {
  const name = location.hash.slice(1) in views ? location.hash.slice(1) : "live";
  for (const view of Object.keys(views)) element(view).hidden = view !== name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  views[name].shown?.();
}

// A page that nobody sees does not keep the worker busy.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) running?.abort();
  else connect();
});
addEventListener("hashchange", () => {
  if (location.hash === "#content") return;
  route();
  scrollTo(0, 0);
});
route();
connect();
