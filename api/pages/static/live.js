// Keeping a page fresh: work that is repeated while the page is looked at, later and later while the service is away.

import { connection, mayRetry } from "./calls.js";

const LONGEST_S = 15;

// Calls `work` every `seconds`; one at a time, never while the page is hidden. `failed` hears what a next try cannot mend.
export const repeat = (work, seconds, failed = () => {}) => {
  let timer = null;
  let busy = false;
  let again = false;
  let misses = 0;
  let ended = false;

  const turn = async () => {
    clearTimeout(timer);
    if (busy) {
      again = true;
      return;
    }
    if (ended || document.hidden) return;
    busy = true;
    let wait = seconds;
    try {
      await work();
      misses = 0;
    } catch (error) {
      if (!mayRetry(error)) failed(error);
      misses += 1;
      wait = Math.max(error.retryAfter ?? 0, Math.min(LONGEST_S, Math.min(seconds, 1) * 2 ** misses));
    }
    busy = false;
    if (!ended) timer = setTimeout(turn, again ? 50 : 1000 * wait);
    again = false;
  };

  const soon = () => {
    if (!document.hidden) turn();
  };
  document.addEventListener("visibilitychange", soon);
  connection.addEventListener("retry", soon);
  turn();
  return {
    now: turn,
    stop: () => {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", soon);
      connection.removeEventListener("retry", soon);
    },
  };
};

// `work` at most once in so many milliseconds, and once more after the last call.
export const calmed = (work, pause) => {
  let last = 0;
  let timer = null;
  return () => {
    if (timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      last = Date.now();
      work();
    }, Math.max(0, last + pause - Date.now()));
  };
};
