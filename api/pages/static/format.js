// Numbers, sizes and times in few characters.

const MINUS = "−";
const signed = (text) => text.replace("-", MINUS);

export const number = (value, digits = 3) => {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3)) return signed(value.toExponential(digits - 1));
  if (Number.isInteger(value)) return signed(value.toLocaleString("en"));
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))));
  return signed(Number(value.toFixed(places)).toLocaleString("en", { maximumFractionDigits: 6 }));
};

export const fixed = (value, places = 2) =>
  value === null || value === undefined || !Number.isFinite(value) ? "–" : signed(value.toFixed(places));

export const percent = (value, places = 1) =>
  value === null || value === undefined || !Number.isFinite(value) ? "–" : `${signed((100 * value).toFixed(places))} %`;

export const count = (value, one, many = `${one}s`) => `${value.toLocaleString("en")} ${value === 1 ? one : many}`;

export const bytes = (value) => {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
};

export const duration = (seconds) => {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor((whole % 86400) / 3600), Math.floor((whole % 3600) / 60)];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${minutes < 10 ? `${whole % 60} s` : ""}`.trim() : `${whole} s`;
};

export const age = (moment, now = Date.now()) => {
  const seconds = (now - Date.parse(moment)) / 1000;
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${count(Math.floor(seconds / 86400), "day")} ago`;
};

const two = (value) => String(value).padStart(2, "0");

export const clock = (moment) => {
  const at = new Date(moment);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
};

export const date = (moment) => {
  const at = new Date(moment);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
};

export const words = (name) => name.replaceAll("_", " ");
