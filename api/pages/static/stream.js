// The events of a run as they happen: server-sent events read with fetch, resumed after the last one that was seen.
// (EventSource gives up at the first refusal, and tells neither 401 from 429 nor a silent line from a quiet one.)

import { address, connection, mayRetry, request } from "./calls.js";

const SILENCE_MS = 45000;
const LONGEST_S = 15;
const LASTING_MS = 5000;

// The blocks of a stream, cut at empty lines: {id, event, data}; comments are heartbeats.
const messages = (block) => {
  const fields = { id: null, event: "message", data: [] };
  for (const line of block.split("\n")) {
    const [, name, value] = line.match(/^([^:]*):? ?(.*)$/);
    if (name === "data") fields.data.push(value);
    else if (name === "id" || name === "event") fields[name] = value;
  }
  return fields.data.length ? { ...fields, data: fields.data.join("\n") } : null;
};

// Hands each event to `heard` once and in order until it returns true for the last one; returns how to stop.
export const follow = (runId, after, heard, refused = () => {}) => {
  let last = after;
  let misses = 0;
  let over = false;
  let line = null;
  let wake = () => {};

  const read = async (answer, controller) => {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let alarm = null;
    const listen = () => {
      clearTimeout(alarm);
      alarm = setTimeout(() => controller.abort(), SILENCE_MS);
    };
    listen();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        listen();
        const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
        rest = blocks.pop();
        const events = blocks.map(messages).filter(Boolean).map((m) => JSON.parse(m.data)).filter((e) => e.seq > last);
        if (!events.length) continue;
        last = events.at(-1).seq;
        misses = 0;
        if (heard(events)) over = true;
      }
    } finally {
      clearTimeout(alarm);
    }
  };

  const once = async () => {
    const controller = new AbortController();
    line = controller;
    try {
      const headers = { Accept: "text/event-stream", "Last-Event-ID": String(last) };
      const url = address(`/runs/${runId}/events/stream`, { after: last });
      await read(await request("GET", url, { headers, signal: controller.signal, patience: 0 }), controller);
    } catch (error) {
      if (over || document.hidden) return;
      if (error instanceof TypeError) connection.lost("The connection to the service was lost.");
      else if (error.name !== "AbortError" && !mayRetry(error)) {
        over = true;
        refused(error);
      }
      return;
    } finally {
      line = null;
    }
  };

  const pause = (ms) => new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });

  const run = async () => {
    while (!over) {
      if (document.hidden) await pause(3600000);
      else {
        const began = Date.now();
        await once();
        if (over) break;
        if (Date.now() - began > LASTING_MS) misses = 0;
        await pause(document.hidden ? 0 : 1000 * Math.min(LONGEST_S, 0.5 * 2 ** misses));
        misses += 1;
      }
    }
  };

  // A browser opens six connections to a site at most, over all its tabs: a page that nobody looks at holds none.
  const looked = () => {
    if (document.hidden) line?.abort();
    else wake();
  };
  document.addEventListener("visibilitychange", looked);
  connection.addEventListener("retry", () => wake());
  run();
  return () => {
    over = true;
    line?.abort();
    wake();
    document.removeEventListener("visibilitychange", looked);
  };
};
