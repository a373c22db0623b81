// A small line chart in SVG that is drawn anew as its numbers grow. Its legend is its read-out: the last values, or those
// under the pointer or the arrow keys. Colours are classes, because the policy of the pages knows no style attributes.

import { h, refill, svg } from "./dom.js";
import { number, percent } from "./format.js";
import { extent, linear, logarithmic, powers, thinned, ticks } from "./scale.js";

const HEIGHT = 190;
const TOP = 8;
const BOTTOM = 24;
const FONT_WIDTH = 6.7;

// about: {title, reading, unit, x: "step" | "iteration", zero, log, percent, low, high, line}
export class Chart {
  constructor(about) {
    this.about = about;
    this.series = [];
    this.rules = [];
    this.at = null;
    this.legend = h("p", { class: "legend" });
    this.where = h("span", { class: "where" });
    this.place = h("div", {
      class: "chart", tabindex: "0", role: "img", onkeydown: (event) => this.key(event),
      onpointermove: (event) => this.point(event), onpointerleave: () => this.leave(), onblur: () => this.leave(),
    });
    this.figure = h(
      "figure", { class: "figure", hidden: true },
      h("figcaption", {}, h("b", {}, about.title), " ", h("span", {}, about.reading)), this.legend, this.place,
    );
    new ResizeObserver(() => this.draw()).observe(this.place);
  }

  // series: [{name, colour, points: [{x, y, low?, high?}] in order of x}]
  show(series, rules = []) {
    this.series = series.filter((line) => line.points.some((p) => p.y !== null && Number.isFinite(p.y)));
    this.rules = rules;
    this.figure.hidden = !this.series.length;
    if (this.series.length) this.draw();
  }

  value(y) {
    return this.about.percent ? percent(y) : number(y);
  }

  draw() {
    const width = this.place.clientWidth;
    if (!width || !this.series.length) return;
    const frame = this.frame(width);
    this.scales = frame;
    const rules = this.rules.filter((x) => x > frame.domain[0] && x < frame.domain[1]);
    refill(
      this.place,
      svg(
        "svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" },
        this.grid(frame, width),
        rules.length <= 30 ? rules.map((x) => svg("line", { class: "rule", x1: frame.x(x), x2: frame.x(x), y1: TOP, y2: HEIGHT - BOTTOM })) : [],
        this.about.line === undefined ? [] : this.level(frame, width),
        this.series.map((line) => this.curve(line, frame)),
        (this.cursor = svg("g", { class: "cursor" })),
      ),
    );
    this.read();
    this.place.setAttribute("aria-label", `${this.about.title}. ${this.spoken()}`);
  }

  frame(width) {
    const points = this.series.flatMap((line) => line.points);
    const ys = points.flatMap((p) => [p.y, p.low ?? null, p.high ?? null]);
    const log = this.about.log && ys.every((y) => y === null || y > 0);
    const range = log ? this.logRange(ys) : extent(this.about.line === undefined ? ys : [...ys, this.about.line], this.about);
    const marks = this.marks(range, log);
    const labels = marks.at.map((y) => this.tick(y, marks.places));
    const left = 8 + Math.ceil(FONT_WIDTH * Math.max(...labels.map((label) => label.length), 2));
    const xs = points.map((p) => p.x);
    let domain = [xs.reduce((a, b) => Math.min(a, b)), xs.reduce((a, b) => Math.max(a, b))];
    const room = this.about.x === "iteration" ? 0.25 : 0;
    if (domain[0] === domain[1]) domain = [domain[0] - 0.5, domain[1] + 0.5];
    else domain = [domain[0] - room, domain[1] + room];
    const x = linear(domain, [left, width - 8]);
    const y = (log ? logarithmic : linear)(range, [HEIGHT - BOTTOM, TOP]);
    return { x, y, left, domain, marks: marks.at, labels };
  }

  // Powers of ten, or, where the range holds fewer than two of their kind, round numbers.
  marks(range, log) {
    const at = log ? powers(range) : [];
    return at.length > 1 ? { at, places: null } : ticks(range, 4);
  }

  logRange(ys) {
    const found = ys.filter((y) => y !== null && Number.isFinite(y));
    const [low, high] = [found.reduce((a, b) => Math.min(a, b)), found.reduce((a, b) => Math.max(a, b))];
    return [low / 1.15, high * 1.15];
  }

  tick(y, places) {
    if (this.about.percent) return `${Math.round(100 * y)} %`;
    if (y === 0) return "0";
    if (places === null || Math.abs(y) >= 1e4 || (places > 4 && y !== 0)) return number(y, 2);
    return y.toFixed(places).replace("-", "−");
  }

  grid(frame, width) {
    const floor = HEIGHT - BOTTOM;
    const wanted = Math.max(2, Math.min(8, Math.floor((width - frame.left) / 70)));
    const across = ticks(frame.domain, wanted, true).at;
    return [
      frame.marks.map((y, i) => [
        svg("line", { class: "grid", x1: frame.left, x2: width - 8, y1: frame.y(y), y2: frame.y(y) }),
        svg("text", { class: "tick", x: frame.left - 6, y: frame.y(y) + 4, "text-anchor": "end" }, frame.labels[i]),
      ]),
      svg("line", { class: "axis", x1: frame.left, x2: width - 8, y1: floor, y2: floor }),
      across.map((x) => svg("text", { class: "tick", x: frame.x(x), y: HEIGHT - 7, "text-anchor": "middle" }, number(x))),
    ];
  }

  level(frame, width) {
    const y = frame.y(this.about.line);
    return svg("line", { class: "level", x1: frame.left, x2: width - 8, y1: y, y2: y });
  }

  curve(line, frame) {
    const points = thinned(line.points, this.place.clientWidth);
    let path = "";
    let pen = "M";
    for (const { x, y } of points) {
      if (y === null || !Number.isFinite(y)) {
        pen = "M";
        continue;
      }
      path += `${pen}${frame.x(x).toFixed(1)} ${frame.y(y).toFixed(1)}`;
      pen = "L";
    }
    const few = points.length <= 40 && this.about.x === "iteration";
    return svg(
      "g", { class: `series c-${line.colour}` },
      points.filter((p) => p.low !== undefined && p.low !== null).map((p) => svg("path", { class: "whisker", d: this.whisker(p, frame) })),
      svg("path", { class: "line", d: path }),
      few || points.length === 1 ? points.filter((p) => p.y !== null).map((p) => svg("circle", { cx: frame.x(p.x), cy: frame.y(p.y), r: 3.5 })) : [],
    );
  }

  whisker(p, frame) {
    const [x, low, high] = [frame.x(p.x), frame.y(p.low), frame.y(p.high)];
    return `M${x} ${low}V${high}M${x - 4} ${low}h8M${x - 4} ${high}h8`;
  }

  // The x that are drawn, for the pointer and the keys.
  places() {
    return [...new Set(this.series.flatMap((line) => line.points.filter((p) => p.y !== null).map((p) => p.x)))].sort((a, b) => a - b);
  }

  point(event) {
    const box = this.place.getBoundingClientRect();
    const { domain, left } = this.scales;
    const width = this.place.clientWidth - 8 - left;
    const x = domain[0] + ((event.clientX - box.left - left) / width) * (domain[1] - domain[0]);
    this.at = this.places().reduce((a, b) => (Math.abs(b - x) < Math.abs(a - x) ? b : a));
    this.read();
  }

  key(event) {
    const xs = this.places();
    const here = this.at === null ? xs.length - 1 : xs.indexOf(this.at);
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -xs.length, End: xs.length };
    if (!(event.key in steps)) return;
    event.preventDefault();
    this.at = xs[Math.max(0, Math.min(xs.length - 1, here + steps[event.key]))];
    this.read();
    this.place.setAttribute("aria-label", this.spoken());
  }

  leave() {
    this.at = null;
    this.read();
  }

  found(line) {
    const present = line.points.filter((p) => p.y !== null && Number.isFinite(p.y));
    return this.at === null ? present.at(-1) : present.findLast((p) => p.x === this.at);
  }

  read() {
    if (!this.cursor) return;
    const read = this.series.map((line) => [line, this.found(line)]);
    const at = this.at ?? Math.max(...read.map(([, p]) => p.x));
    refill(
      this.legend,
      read.map(([line, p]) => h("span", { class: `key c-${line.colour}` }, h("i"), `${line.name} `, h("b", {}, p ? this.reading(p) : "–"))),
      h("span", { class: "where" }, `${this.about.unit ? `${this.about.unit} · ` : ""}${this.about.x} ${number(at)}`),
    );
    const { x, y } = this.scales;
    refill(
      this.cursor,
      this.at === null ? [] : [
        svg("line", { class: "hair", x1: x(this.at), x2: x(this.at), y1: TOP, y2: HEIGHT - BOTTOM }),
        read.filter(([, p]) => p).map(([line, p]) => svg("circle", { class: `c-${line.colour}`, cx: x(p.x), cy: y(p.y), r: 4 })),
      ],
    );
  }

  reading(p) {
    const interval = p.low !== undefined && p.low !== null ? ` [${this.value(p.low)}, ${this.value(p.high)}]` : "";
    return `${this.value(p.y)}${interval}`;
  }

  spoken() {
    const read = this.series.map((line) => [line, this.found(line)]).filter(([, p]) => p);
    return read.map(([line, p]) => `${line.name} ${this.reading(p)} at ${this.about.x} ${p.x}`).join(", ");
  }
}
