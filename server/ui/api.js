// Requests to the worker this page came from, with the key of this tab, and its stream of events.

const KEY = "tensorpow-key";

/** An answer that is no success. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

function headers(more = {}) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

/** Whatever a failed answer says about itself. */
async function refusal(answer) {
  const text = await answer.text();
  try {
    const { error } = JSON.parse(text);
    return new Refused(answer.status, error?.message ?? error ?? text);
  } catch {
    return new Refused(answer.status, text || answer.statusText || `status ${answer.status}`);
  }
}

async function json(answer) {
  if (!answer.ok) throw await refusal(answer);
  return answer.json();
}

/** GET as JSON. Paths are relative to the page. */
export const get = async (path) => json(await fetch(path, { headers: headers(), cache: "no-store" }));

/** POST of JSON, answered by JSON. */
export const post = async (path, body) =>
  json(await fetch(path, {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
  }));

/** A picture as a document: the browser's own XML reader, in which nothing runs. */
export function picture(path) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.responseType = "document";
    request.overrideMimeType("image/svg+xml");
    request.addEventListener("load", () => {
      const drawn = request.status === 200 && request.responseXML?.documentElement;
      if (drawn) resolve(drawn);
      else reject(new Refused(request.status, "this proof cannot be drawn"));
    });
    request.addEventListener("error", () => reject(new Refused(0, "the worker does not answer")));
    request.send();
  });
}

/** Follows the stream until it ends or `signal` aborts; `tell` gets every state. Fetch, not
 * EventSource: only fetch can send the key in a header. */
export async function follow(tell, signal) {
  const answer = await fetch("api/events", { headers: headers(), cache: "no-store", signal });
  if (!answer.ok) throw await refusal(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
      if (data.length > 0) tell(JSON.parse(data.join("\n")));
    }
  }
}
