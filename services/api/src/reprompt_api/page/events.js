// What happens to a generation: the event stream by fetch, as EventSource can send no key. The stream is taken up
// again where it broke; where it cannot be had at all, the generation is asked for instead.

import { Problem, call, send } from "./api.js";
import { sleep } from "./dom.js";

const SILENCE_MS = 45_000; // the server is heard every 15 s
const FAILURES = 3; // streams in a row that told nothing, before polling
const POLL_MS = 1500;
const FINAL = new Set(["succeeded", "failed", "cancelled"]);

/**
 * Yields {kind, data} until the generation is final: kind "status", "progress" or "take", "generation" where it was
 * polled, or "away" while the server cannot be reached.
 * @throws Problem: it was deleted, or its server is gone for good
 */
export async function* happenings(id, signal) {
  const path = `/v1/generations/${encodeURIComponent(id)}`;
  let last = "";
  let failures = 0;
  while (failures < FAILURES) {
    let told = false;
    try {
      for await (const event of stream(`${path}/events`, last, signal)) {
        told = true;
        failures = 0;
        last = event.id || last;
        yield { kind: event.kind, data: event.data };
        if (event.kind === "status" && FINAL.has(event.data.status)) return;
      }
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (error instanceof Problem && error.status === 404) throw error;
      if (error instanceof Problem && error.status === 503) break; // too many streams: the server says to ask instead
      if (isAway(error)) yield { kind: "away", data: null };
    }
    if (!told) failures += 1;
    await pause(1000 * 2 ** Math.min(failures, 4), signal);
  }
  for (let failed = 0; ;) {
    try {
      const generation = await call(path, { signal });
      failed = 0;
      yield { kind: "generation", data: generation };
      if (FINAL.has(generation.status)) return;
    } catch (error) {
      if (signal.aborted || (error instanceof Problem && error.status === 404) || ++failed > 8) throw error;
      if (isAway(error)) yield { kind: "away", data: null };
    }
    await pause(POLL_MS * 1.5 ** failed, signal);
  }
}

const isAway = (error) => error instanceof Problem && error.kind !== "refused";

/** A pause with some chance in it, so that not all pages come back at once; it ends when the network is back. */
async function pause(ms, signal) {
  const woken = new AbortController();
  const wake = () => woken.abort("online");
  addEventListener("online", wake, { once: true });
  try {
    await sleep(ms * (0.7 + 0.6 * Math.random()), AbortSignal.any([signal, woken.signal]));
  } catch (reason) {
    if (signal.aborted) throw reason;
  } finally {
    removeEventListener("online", wake);
  }
}

async function* stream(path, last, signal) {
  const silent = new AbortController();
  let timer = setTimeout(() => silent.abort(), SILENCE_MS);
  const both = AbortSignal.any([signal, silent.signal]);
  try {
    const response = await send(path, { signal: both, tries: 1, headers: last ? { "Last-Event-ID": last } : {} });
    if (response.status === 204) return; // its end was told already
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENCE_MS);
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    clearTimeout(timer);
    silent.abort(); // whoever stops listening closes the connection
  }
}

/** An event of the stream; null: a comment, or something that is not for us. */
function parse(block) {
  const fields = { id: "", event: "", data: "" };
  for (const line of block.split(/\r?\n/)) {
    const at = line.indexOf(":");
    if (at > 0) fields[line.slice(0, at)] = line.slice(at + 1).replace(/^ /, "");
  }
  if (!fields.data) return null;
  try {
    return { id: fields.id, kind: fields.event, data: JSON.parse(fields.data) };
  } catch {
    return null;
  }
}
