// An upload whose progress can be seen, which fetch cannot tell: multipart over XMLHttpRequest.

import { address, Problem, toLogin, Unreachable } from "./calls.js";

// Resolves to the dataset; `moved` hears the bytes that went and the bytes in all. `stop` of the result ends it.
export const upload = (name, files, moved) => {
  const body = new FormData();
  body.append("name", name);
  for (const file of files) body.append("file", file);
  const line = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    line.upload.addEventListener("progress", (event) => moved(event.loaded, event.total));
    line.addEventListener("error", () => reject(new Unreachable("the connection was lost; nothing was kept, upload again")));
    line.addEventListener("abort", () => reject(new Unreachable("the upload was stopped; nothing was kept")));
    line.addEventListener("load", () => {
      const answer = parsed(line.responseText);
      if (line.status < 400) return resolve(answer);
      if (line.status === 401) toLogin();
      return reject(new Problem(line.status, answer));
    });
  });
  line.open("POST", address("/datasets"));
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
