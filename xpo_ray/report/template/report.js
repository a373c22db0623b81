"use strict";
(() => {
  const root = document.documentElement;
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const places = [...document.querySelectorAll("[data-chart]")];
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const narrow = window.matchMedia("(max-width: 52rem)");
  let chosen = null;

  // "@draw/0.2" is the colour of the CSS variable --draw at an opacity of 0.2.
  const resolved = (value, style) => {
    if (typeof value === "string" && value.startsWith("@")) {
      const [name, opacity] = value.slice(1).split("/");
      const hex = style.getPropertyValue("--" + name).trim();
      if (!opacity) return hex;
      const parts = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
      return `rgba(${parts.join(",")},${opacity})`;
    }
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map((v) => resolved(v, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v, style)]));
    }
    return value;
  };

  const dressed = (chart, style) => {
    const colour = (name) => style.getPropertyValue("--" + name).trim();
    const { data, layout } = resolved(chart, style);
    const axis = (given) => ({
      gridcolor: colour("line"), linecolor: colour("rule"), zerolinecolor: colour("rule"), tickcolor: colour("rule"),
      ticks: "", exponentformat: "e", automargin: true, fixedrange: true, ...given,
      title: { ...given.title, font: { size: 12, color: colour("soft") }, standoff: 8 },
    });
    return {
      data,
      layout: {
        ...layout,
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
        margin: { l: 52, r: narrow.matches ? 8 : 14, t: 10, b: 44 },
        xaxis: axis({ showgrid: false, showline: true, ...layout.xaxis }),
        yaxis: axis(layout.yaxis),
        legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 12 }, itemclick: "toggle" },
        hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("rule"), font: { color: colour("ink"), size: 12 } },
      },
    };
  };

  const draw = () => {
    const style = getComputedStyle(root);
    for (const place of places) {
      const { data, layout } = dressed(charts[Number(place.dataset.chart)], style);
      Plotly.react(place, data, { ...layout, width: place.clientWidth }, { displayModeBar: false, responsive: true });
    }
  };

  const theme = () => chosen ?? (system.matches ? "dark" : "light");
  const apply = () => {
    root.dataset.theme = theme();
    button.textContent = theme() === "dark" ? "Light" : "Dark";
    draw();
  };
  button.addEventListener("click", () => {
    chosen = theme() === "dark" ? "light" : "dark";
    apply();
  });
  system.addEventListener("change", () => { chosen = null; apply(); });
  narrow.addEventListener("change", draw);

  // Paper is white, and as wide as the style sheet says: figures are drawn anew for it.
  window.addEventListener("beforeprint", () => {
    root.dataset.theme = "light";
    root.classList.add("paper");
    draw();
  });
  window.addEventListener("afterprint", () => {
    root.classList.remove("paper");
    apply();
  });

  const search = document.getElementById("search");
  if (search) {
    const list = document.getElementById("groups");
    const order = document.getElementById("order");
    const found = document.getElementById("found");
    const groups = [...list.children];
    const wordsOf = (group) => [...group.querySelectorAll(".text")].map((t) => t.textContent.toLowerCase()).join("\n");
    const texts = new Map(groups.map((g) => [g, wordsOf(g)]));

    const highlight = (words) => {
      if (!window.CSS || !CSS.highlights) return;
      const ranges = [];
      for (const group of words.length ? groups.filter((g) => !g.hidden) : []) {
        for (const element of group.querySelectorAll(".text")) {
          const node = element.firstChild;
          if (!node) continue;
          const text = node.data.toLowerCase();
          if (text.length !== node.data.length) continue;
          for (const word of words) {
            for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
              const range = new Range();
              range.setStart(node, at);
              range.setEnd(node, at + word.length);
              ranges.push(range);
            }
          }
        }
      }
      CSS.highlights.set("found", new Highlight(...ranges));
    };

    const FIRST = 8;
    const all = document.getElementById("all");
    const filter = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const whole = all.hidden || words.length > 0;
      let shown = 0;
      for (const group of list.children) {
        const match = words.every((word) => texts.get(group).includes(word));
        group.hidden = !match || (!whole && shown >= FIRST);
        shown += group.hidden ? 0 : 1;
      }
      found.textContent = `${shown} of ${groups.length} prompts`;
      highlight(words);
    };
    all.hidden = groups.length <= FIRST;
    all.addEventListener("click", () => { all.hidden = true; filter(); });
    const keys = {
      place: (g) => Number(g.dataset.place),
      gain: (g) => -Number(g.dataset.gain),
      loss: (g) => Number(g.dataset.gain),
    };
    order.addEventListener("change", () => {
      const key = keys[order.value];
      list.append(...[...groups].sort((a, b) => key(a) - key(b) || keys.place(a) - keys.place(b)));
      filter();
    });
    search.addEventListener("input", filter);
    filter();
  }

  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((e) => e.isIntersecting)) {
      links.forEach((link, id) => link.classList.toggle("here", id === entry.target.id));
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll(".part").forEach((part) => seen.observe(part));

  apply();
})();
