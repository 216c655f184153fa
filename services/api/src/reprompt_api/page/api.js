// Requests to the API: the key, problem details, and waiting where the server says so.

import { sleep } from "./dom.js";
import { apiKey, askForKey } from "./key.js";

const TRIES = 4;
const LONGEST_WAIT_S = 60; // a server that asks for more is told to the visitor instead

/** What went wrong, as RFC 9457 tells it; `kind` is "offline", "unreachable" or "refused". */
export class Problem extends Error {
  constructor(kind, details = {}) {
    super(details.detail ?? kind);
    this.kind = kind;
    this.status = details.status ?? 0;
    this.detail = details.detail ?? "";
    this.errors = Array.isArray(details.errors) ? details.errors : [];
    this.instance = details.instance ?? "";
    this.retryAfter = details.retryAfter ?? null; // seconds
  }
}

/**
 * A request, answered with an ok response.
 * @param options method, json, headers, signal, tries: how often at most, and onWait(seconds): called when the server
 *   asks to wait, and with 0 when that is over
 * @throws Problem; the signal's reason when it is aborted
 */
export async function send(path, { method = "GET", json, headers = {}, signal, tries = TRIES, onWait } = {}) {
  for (let attempt = 1; ; attempt++) {
    const key = apiKey();
    let response;
    try {
      response = await fetch(path, {
        method,
        signal,
        headers: {
          ...(json === undefined ? {} : { "Content-Type": "application/json" }),
          ...(key ? { Authorization: `Bearer ${key}` } : {}),
          ...headers,
        },
        body: json === undefined ? undefined : JSON.stringify(json),
      });
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new Problem(navigator.onLine ? "unreachable" : "offline", { detail: String(error) });
    }
    if (response.ok) return response;
    const problem = await problemOf(response);
    if (problem.status === 401 && (await askForKey(key))) {
      attempt = 0;
      continue;
    }
    // refused before anything was done: the same may be sent again
    const wait = problem.status === 429 || problem.status === 503 ? (problem.retryAfter ?? 2 ** attempt) : Infinity;
    if (attempt >= tries || wait > LONGEST_WAIT_S) throw problem;
    onWait?.(wait);
    await sleep(1000 * wait, signal);
    onWait?.(0);
  }
}

/** A request, answered with its JSON; null where there is none. */
export async function call(path, options) {
  const response = await send(path, options);
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch (error) {
    if (options?.signal?.aborted) throw options.signal.reason;
    throw new Problem("unreachable", { detail: String(error) }); // cut off on its way
  }
}

/** A file as a Blob: an <audio> element could not send the key. */
export async function file(path, { signal, onWait } = {}) {
  const response = await send(path, { signal, onWait });
  try {
    return await response.blob();
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw new Problem("unreachable", { detail: String(error) });
  }
}

async function problemOf(response) {
  const after = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const details = { status: response.status, retryAfter: Number.isFinite(after) ? after : null };
  try {
    const body = await response.json();
    if (body && typeof body === "object") Object.assign(details, body, { status: response.status });
  } catch {
    // a proxy's page: the status must do
  }
  return new Problem("refused", details);
}

/** A key for Idempotency-Key; crypto.randomUUID is missing where the page comes over plain HTTP. */
export function freshKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}
