// An upload whose progress can be seen, which fetch cannot tell: multipart over XMLHttpRequest.

import { address, Problem, toLogin, Unreachable } from "./calls.js";

// A key for one upload: the service takes what is sent again under the same one as the same.
export const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

// Resolves to the dataset; `moved` hears the bytes that went and the bytes in all. `stop` of the result ends it.
export const upload = (name, files, key, moved) => {
  const body = new FormData();
  body.append("name", name);
  for (const file of files) body.append("file", file);
  const line = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    line.upload.addEventListener("progress", (event) => moved(event.loaded, event.total));
    line.addEventListener("error", () => reject(new Unreachable("the connection was lost; upload again: nothing is taken twice")));
    line.addEventListener("abort", () => reject(new Unreachable("the upload was stopped; nothing was kept")));
    line.addEventListener("load", () => {
      const answer = parsed(line.responseText);
      if (line.status < 400) return resolve(answer);
      if (line.status === 401) toLogin();
      return reject(new Problem(line.status, answer));
    });
  });
  line.open("POST", address("/datasets"));
  line.setRequestHeader("Idempotency-Key", key);
  line.send(body);
  return { done, stop: () => line.abort() };
};

const parsed = (words) => {
  try {
    return JSON.parse(words);
  } catch {
    return {};
  }
};
