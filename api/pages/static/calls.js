// The REST calls. Every failure is a Problem (the service's own words) or Unreachable (no answer at all).

const PATIENCE_MS = 30000;

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? `the service answered ${status}`);
    this.status = status;
    this.code = document.code ?? "unknown";
    this.errors = document.errors ?? [];
    this.requestId = document.request_id ?? null;
    this.retryAfter = null;
  }
}

export class Unreachable extends Error {}

// Whether the service answers: `away` and `back` are heard by the banner, `retry` by whoever waits for a next try.
class Connection extends EventTarget {
  why = null;

  lost(why) {
    const before = this.why;
    this.why = why;
    if (before !== why) this.dispatchEvent(new Event("away"));
  }

  found() {
    if (this.why === null) return;
    this.why = null;
    this.dispatchEvent(new Event("back"));
  }

  retry() {
    this.dispatchEvent(new Event("retry"));
  }
}

export const connection = new Connection();
window.addEventListener("online", () => connection.retry());

// A page that is left ends its requests; that is no loss of the connection.
let leaving = false;
window.addEventListener("pagehide", () => (leaving = true));
window.addEventListener("pageshow", () => (leaving = false));

export const address = (path, query = {}) => {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") given.append(name, one);
    }
  }
  return `/v1${path}${given.size ? `?${given}` : ""}`;
};

export const problemOf = async (answer) => {
  let document = {};
  try {
    document = await answer.json();
  } catch {
    document = {};
  }
  const problem = new Problem(answer.status, document);
  const wait = Number(answer.headers.get("Retry-After"));
  problem.retryAfter = Number.isFinite(wait) && wait > 0 ? wait : null;
  return problem;
};

const AWAY = new Set([502, 503, 504]);

// The answer to a request, whatever its body; a session that has ended leads to the login.
export const request = async (method, url, { body, headers = {}, signal, patience = PATIENCE_MS } = {}) => {
  const signals = [signal, patience ? AbortSignal.timeout(patience) : null].filter(Boolean);
  const json = body === undefined ? {} : { "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(url, {
      method, cache: "no-store", credentials: "same-origin", redirect: "error", signal: AbortSignal.any(signals),
      headers: { ...json, ...headers }, body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    if (leaving) return new Promise(() => {});
    connection.lost("The service does not answer.");
    throw new Unreachable("the service does not answer");
  }
  if (answer.ok) {
    connection.found();
    return answer;
  }
  const problem = await problemOf(answer);
  if (AWAY.has(answer.status)) connection.lost(`The service is not ready: ${problem.message}`);
  else connection.found();
  if (answer.status === 401 && location.pathname !== "/login") toLogin();
  throw problem;
};

export const toLogin = () => {
  const here = location.pathname + location.search + location.hash;
  location.replace(here === "/" ? "/login" : `/login?next=${encodeURIComponent(here)}`);
};

export const get = async (path, query, options) => (await request("GET", address(path, query), options)).json();

export const send = async (method, path, body, options = {}) => {
  const answer = await request(method, address(path), { ...options, body });
  return answer.status === 204 ? null : answer.json();
};

export const mayRetry = (error) => error instanceof Unreachable || (error instanceof Problem && (AWAY.has(error.status) || error.status === 429));
