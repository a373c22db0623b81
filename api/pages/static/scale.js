// Axes: from a range of numbers to pixels, and round numbers for the ticks.

export const extent = (values, { zero = false, low = null, high = null } = {}) => {
  let [least, most] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null || !Number.isFinite(value)) continue;
    if (value < least) least = value;
    if (value > most) most = value;
  }
  if (least > most) return [0, 1];
  if (zero) [least, most] = [Math.min(0, least), Math.max(0, most)];
  if (least === most) {
    const room = Math.abs(least) * 0.1 || 1;
    [least, most] = [least - room, most + room];
  }
  const room = (most - least) * 0.06;
  return [low ?? (zero && least === 0 ? 0 : least - room), high ?? (zero && most === 0 ? 0 : most + room)];
};

// Multiples of 1, 2 or 5 times a power of ten, about `wanted` of them.
export const ticks = ([low, high], wanted, whole = false) => {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const far = (step) => Math.abs(Math.log(step / rough));
  const nice = [1, 2, 5, 10].map((m) => m * power).reduce((a, b) => (far(b) < far(a) ? b : a));
  const step = whole ? Math.max(1, Math.round(nice)) : nice;
  const places = Math.max(0, -Math.floor(Math.log10(step)));
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) {
    found.push(Number(at.toFixed(Math.min(12, places + 1))));
  }
  return { at: found, places };
};

export const powers = ([low, high]) => {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const m of high / low > 30 ? [1] : [1, 2, 5]) {
      const at = m * 10 ** power;
      if (at >= low * 0.999 && at <= high * 1.001) found.push(Number(at.toPrecision(1)));
    }
  }
  return found;
};

export const linear = ([low, high], [from, to]) => (value) => from + ((value - low) / (high - low)) * (to - from);
export const logarithmic = ([low, high], [from, to]) => (value) =>
  from + (Math.log(value / low) / Math.log(high / low)) * (to - from);

// At most the lowest and the highest point of each pixel column, in order, so that no spike is lost.
export const thinned = (points, columns) => {
  if (points.length <= 3 * columns) return points;
  const kept = [];
  const size = points.length / columns;
  for (let column = 0; column < columns; column += 1) {
    const part = points.slice(Math.floor(column * size), Math.floor((column + 1) * size));
    const present = part.filter((p) => p.y !== null);
    if (!present.length) {
      kept.push(part[0]);
      continue;
    }
    const low = present.reduce((a, b) => (b.y < a.y ? b : a));
    const high = present.reduce((a, b) => (b.y > a.y ? b : a));
    kept.push(...(low.x === high.x ? [low] : low.x < high.x ? [low, high] : [high, low]));
  }
  return kept;
};
