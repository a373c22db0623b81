// A spec as YAML: block style, keys in their order, every doubtful string in JSON's quotes (which YAML reads).

const PLAIN = /^[A-Za-z_./][A-Za-z0-9_./ -]*$/;
const WORDS = /^(true|false|yes|no|on|off|null|y|n|\.nan|\.inf)$/i;

const scalar = (value) => {
  if (value === null) return "null";
  if (typeof value !== "string") return JSON.stringify(value).replace(/^(-?\d+)e/, "$1.0e");
  return PLAIN.test(value) && !WORDS.test(value) && value === value.trim() ? value : JSON.stringify(value);
};

const simple = (value) => value === null || typeof value !== "object";
const flat = (value) => simple(value) || (Array.isArray(value) && value.every(simple)) || !Object.keys(value).length;

const inline = (value) => {
  if (simple(value)) return scalar(value);
  return Array.isArray(value) ? `[${value.map(scalar).join(", ")}]` : "{}";
};

const listed = (one, indent) => {
  if (flat(one)) return [`${indent}- ${inline(one)}`];
  const [first, ...rest] = lines(one, `${indent}  `);
  return [`${indent}- ${first.trimStart()}`, ...rest];
};

const named = (name, one, indent) => {
  const head = `${indent}${scalar(name)}:`;
  return flat(one) ? [`${head} ${inline(one)}`] : [head, ...lines(one, `${indent}  `)];
};

const lines = (value, indent) =>
  Array.isArray(value)
    ? value.flatMap((one) => listed(one, indent))
    : Object.entries(value).flatMap(([name, one]) => named(name, one, indent));

export const yaml = (value) => `${lines(value, "").join("\n")}\n`;
