// Numbers, times and hashes for people.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

/** A count, thousands set apart. */
export const count = (value) => whole.format(value ?? 0);

/** A count that must stay short. */
export const brief = (value) => (value < 100000 ? whole.format(value) : short.format(value));

/** A rate: one decimal where it matters. */
export const rate = (value) => (value < 10 ? tenths.format(value) : whole.format(value));

/** Seconds as 42 s, 3 min 05 s, 2 h 10 min, 3 d 4 h. */
export function duration(seconds) {
  const two = (value) => String(value).padStart(2, "0");
  const all = Math.max(0, Math.round(seconds));
  if (all < 60) return `${all} s`;
  if (all < 3600) return `${Math.floor(all / 60)} min ${two(all % 60)} s`;
  if (all < 86400) return `${Math.floor(all / 3600)} h ${two(Math.floor((all % 3600) / 60))} min`;
  return `${Math.floor(all / 86400)} d ${Math.floor((all % 86400) / 3600)} h`;
}

/** A latency: milliseconds below a second. */
export function latency(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 10 ? `${tenths.format(seconds)} s` : `${whole.format(seconds)} s`;
}

/** A moment of today, from milliseconds. */
export const time = (milliseconds) => clock.format(new Date(milliseconds));

/** Both ends of a hash or an id. */
export const ends = (text, head = 10, tail = 6) =>
  !text || text.length <= head + tail + 1 ? text ?? "" : `${text.slice(0, head)}…${text.slice(-tail)}`;

/** Bytes as kB or MB. */
export const bytes = (value) =>
  value < 1e6 ? `${whole.format(value / 1e3)} kB` : `${tenths.format(value / 1e6)} MB`;

const WORDS = {
  no_job: "no job yet",
  job_stale: "the job is too old",
  no_vdf: "waiting for the VDF proof",
  model_not_registered: "model not registered",
  unminable: "target cannot be mined",
  opt_out: "client opted out",
  off_profile: "sampling outside the profile",
  paused: "mining is paused",
  stale_parent: "parent is no longer the tip",
  no_sink: "nobody to forward to",
  sink_queue_full: "queue to the chain full",
  other_model: "another model",
  malformed: "no proof in the message",
  no_pow_blob: "no proof in the message",
  audit_without_completion_id: "audit without an id",
  client_gone: "client went away",
  engine_error: "engine answered with an error",
  engine_broke: "engine broke off",
  duplicate_share: "share credited before",
  already_submitted: "job already became a block",
  unknown_req_id: "unknown job",
  stale: "the tip has moved",
};

/** A label of a counter in words. */
export const words = (label) => WORDS[label] ?? label.replaceAll(/[_-]/g, " ");

const CAPTIONS = { model_sync: "Registry", sample_models: "Models", update_task_running: "Updates" };

/** A key of a document as a caption. */
export function caption(key) {
  if (CAPTIONS[key]) return CAPTIONS[key];
  if (key.includes("://")) return key;
  const text = key.replaceAll("_", " ").replace(/\bvdf\b/, "VDF").replace(/\bslo\b/, "SLO").replace(/\bid\b/, "ID");
  return text.charAt(0).toUpperCase() + text.slice(1);
}
