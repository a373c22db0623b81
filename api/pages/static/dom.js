// Elements from plain values. Text becomes text nodes and nothing else: what a model or a user wrote is never parsed.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "disabled", "hidden", "max"]);

const filled = (element, properties, children) => {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...kept(children));
  return element;
};

const kept = (children) => children.flat(3).filter((child) => child !== null && child !== undefined && child !== false);

export const h = (tag, properties = {}, ...children) => filled(document.createElement(tag), properties, children);
export const svg = (tag, properties = {}, ...children) => filled(document.createElementNS(SVG, tag), properties, children);

export const refill = (element, ...children) => {
  element.replaceChildren(...kept(children));
  return element;
};

// The children of an element shall be these: what stays is not touched, so that it keeps focus, selection and scroll.
export const arrange = (parent, nodes) => {
  const wanted = new Set(nodes);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  nodes.forEach((node, i) => {
    if (parent.children[i] !== node) parent.insertBefore(node, parent.children[i] ?? null);
  });
};

// What cannot be seen and yet changes what is seen: controls, zero-width characters, direction marks, tag characters.
const UNSEEN = new RegExp(
  "[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180e" +
    "\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufe00-\\ufe0e\\ufeff\\uffa0\\ufff9-\\ufffb\\u{e0000}-\\u{e0fff}]",
  "gu",
);
const NAMES = {
  0x200b: "zero-width space", 0x200c: "zero-width non-joiner", 0x200d: "zero-width joiner",
  0x200e: "left-to-right mark", 0x200f: "right-to-left mark", 0x202a: "left-to-right embedding",
  0x202b: "right-to-left embedding", 0x202c: "end of direction", 0x202d: "left-to-right override",
  0x202e: "right-to-left override", 0x2066: "left-to-right isolate", 0x2067: "right-to-left isolate",
  0x2068: "first strong isolate", 0x2069: "end of isolate", 0xfeff: "byte order mark", 0x00ad: "soft hyphen",
};

const named = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

// A text as nodes, with unseen characters shown by their number.
export const shown = (text) => {
  const nodes = [];
  let from = 0;
  for (const found of String(text).matchAll(UNSEEN)) {
    nodes.push(text.slice(from, found.index));
    const title = NAMES[found[0].codePointAt(0)] ?? "unseen character";
    nodes.push(h("span", { class: "unseen", title }, named(found[0])));
    from = found.index + found[0].length;
  }
  nodes.push(String(text).slice(from));
  return nodes.filter((node) => node !== "");
};

// The same as a string, where only a string can stand: titles, options, labels.
export const plain = (text) => String(text).replace(UNSEEN, named);

// Untrusted text in an element of its own, whose direction touches nothing around it.
export const text = (value, properties = {}) =>
  h("span", { dir: "auto", ...properties, class: `text ${properties.class ?? ""}`.trim() }, shown(value ?? ""));
