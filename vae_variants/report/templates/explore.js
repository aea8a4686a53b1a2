"use strict";
// A scatter of any two metrics, drawn by Observable Plot. What is filtered or selected in the table is so here.
(() => {
  const { all, one, made, state, shows, pick, write } = window.report;
  const data = JSON.parse(one("#data").textContent);
  const index = new Map(data.metrics.map((metric, i) => [metric.name, i]));
  const pixels = ["binary", "byte", "unit", "real"];
  const SYMBOLS = ["circle", "square", "triangle", "diamond2"];
  Object.assign(window.report, { data, index, shown, choice });
  const section = one("#explore"), table = one(".tools", section);
  if (!data.metrics.length) return;

  function choice(name, words, options, value) {
    const select = made("select", { name });
    for (const [key, text] of options) select.append(made("option", { value: key, textContent: text }));
    select.value = value;
    select.setAttribute("aria-label", words);
    return made("label", {}, `${words} `, select);
  }

  function shown(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    const text = size >= 1e4 ? Math.round(value).toLocaleString("en").replaceAll(",", "\u2009") : String(Number(value.toPrecision(4)));
    return text.replace("-", "−");
  }

  const titles = data.metrics.map((metric) => [metric.name, metric.title]);
  const form = made("form", { className: "tools axes" });
  form.setAttribute("aria-label", "Axes of the scatter");
  const check = (name, words, checked) => made("label", { className: "check" }, made("input", { type: "checkbox", name, checked }), ` ${words}`);
  form.append(
    choice("x", "Across", titles, data.axes[0]), choice("y", "Up", titles, data.axes[1]),
    choice("colour", "Colour", [["family", "family"], ["pixels", "pixel type"]], "family"),
    check("intervals", "intervals", true), check("log", "logarithm across", false), check("collapsed", "collapsed rows", false),
  );
  const place = made("div", { className: "scatter" });
  const said = made("p", { className: "note" });
  said.setAttribute("role", "status");
  table.before(made("h3", { textContent: "Any metric against any other" }), form, place, said, made("h3", { textContent: "Main metrics" }));
  const field = (name) => form.elements[name];

  function rows() {
    const x = index.get(field("x").value), y = index.get(field("y").value);
    const found = data.variants.filter((v) => v.means[x] && v.means[y] && shows(v.label));
    return found.map((v) => ({ ...v, x: v.means[x], y: v.means[y] }));
  }

  function told(row, x, y) {
    const one = (metric, [mean, low, high]) => `${metric.title}: ${shown(mean)}${low === null ? "" : ` (${shown(low)} to ${shown(high)})`}`;
    return [`${row.label}${row.flagged ? " †" : ""}`, one(x, row.x), one(y, row.y)].join("\n");
  }

  function scales(colour) {
    const domain = colour === "family" ? data.families : pixels;
    return {
      color: { domain: [...domain, "other"], range: [...domain.map((_, i) => `var(--v${i % 8})`), "var(--muted)"] },
      symbol: { domain: [...domain, "other"], range: [...domain.map((_, i) => SYMBOLS[Math.floor(i / 8)]), "star"] },
    };
  }

  function draw() {
    const x = data.metrics[index.get(field("x").value)], y = data.metrics[index.get(field("y").value)];
    const nats = [x, y].some((metric) => metric.unit === "nats" || metric.unit === "bits");
    const all_ = rows(), counts = pixels.map((each) => all_.filter((row) => row.pixels === each).length);
    const main = pixels[counts.indexOf(Math.max(...counts))], mixed = nats && counts.filter(Boolean).length > 1;
    const everyone = mixed ? all_.filter((row) => row.pixels === main) : all_;
    const held = field("collapsed").checked ? everyone : everyone.filter((row) => !row.collapsed);
    const left = everyone.length - held.length, colour = field("colour").value;
    const kind = (row) => (colour === "family" ? row.family : pixels.includes(row.pixels) ? row.pixels : "") || "other";
    const picked = (row) => !state.picked.size || state.picked.has(row.label);
    const spans = field("intervals").checked ? held : [];
    const log = field("log").checked && held.every((row) => row.x[0] > 0);
    place.replaceChildren();
    said.textContent = `${held.length} variants${left ? `; ${left} collapsed left out` : ""}.${mixed ? ` Nats compare within one pixel type, so these have ${main} pixels; choose another below.` : ""}`;
    if (!held.length) return;
    const ends = (way) => spans.filter((row) => row[way][1] !== null && (way === "y" || !log || row.x[1] > 0));
    const look = { stroke: kind, strokeOpacity: (row) => (picked(row) ? 0.6 : 0.1) };
    const svg = Plot.plot({
      width: Math.max(320, Math.min(place.clientWidth || 960, 1240)), height: 430, marginLeft: 64, marginBottom: 44, grid: true,
      style: { background: "none", color: "inherit", fontSize: "12px", overflow: "visible" },
      ariaLabel: `${y.title} against ${x.title}`, ariaDescription: `${held.length} variants; the table below has the main metrics.`,
      x: { label: x.title, type: log ? "log" : "linear", nice: true }, y: { label: y.title, nice: true },
      ...scales(colour),
      marks: [
        Plot.ruleY(ends("x"), { ...look, y: (row) => row.y[0], x1: (row) => row.x[1], x2: (row) => row.x[2] }),
        Plot.ruleX(ends("y"), { ...look, x: (row) => row.x[0], y1: (row) => row.y[1], y2: (row) => row.y[2] }),
        Plot.dot(held, {
          x: (row) => row.x[0], y: (row) => row.y[0], fill: kind, symbol: kind, r: 5.5, fillOpacity: (row) => (picked(row) ? 1 : 0.15),
          stroke: "var(--paper)", strokeWidth: 0.8, ariaLabel: (row) => row.label,
        }),
        Plot.text(held.filter((row) => state.picked.has(row.label)), { x: (row) => row.x[0], y: (row) => row.y[0], text: "label", dy: -12, fill: "currentColor" }),
        Plot.tip(held, Plot.pointer({
          x: (row) => row.x[0], y: (row) => row.y[0], title: (row) => told(row, x, y), fill: "var(--paper)", stroke: "var(--line)", fontSize: 12,
        })),
      ],
    });
    svg.setAttribute("role", "img"); // one picture: what is in it has no roles, and so no names for screen readers
    const named = () => {
      for (const element of all("[aria-label]", svg)) {
        element.dataset.name = element.getAttribute("aria-label");
        element.removeAttribute("aria-label");
      }
    };
    named();
    svg.style.cursor = "pointer";
    let near = null;
    svg.addEventListener("input", () => {
      named();
      if (near !== svg.value?.label) all("#overview tr.near").forEach((row) => row.classList.remove("near"));
      near = svg.value?.label ?? null;
      if (near) one(`#overview tr[data-variant="${CSS.escape(near)}"]`)?.classList.add("near");
    });
    svg.addEventListener("click", () => near && pick(near));
    const kinds = [...new Set(held.map(kind))], { color } = scales(colour);
    const key = made("p", { className: "note key-of-colours" });
    for (const name of color.domain.filter((each) => kinds.includes(each))) {
      const dot = made("i", { className: "swatch" });
      dot.style.background = color.range[color.domain.indexOf(name)];
      key.append(made("span", {}, dot, ` ${name}`));
    }
    place.append(svg, key);
  }

  form.addEventListener("input", () => {
    Object.assign(state.axes, { x: field("x").value, y: field("y").value });
    write();
    draw();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  function restore() {
    for (const way of ["x", "y"]) if (index.has(state.axes[way])) field(way).value = state.axes[way];
    draw();
  }
  document.addEventListener("changed", restore);
  document.addEventListener("turned", (event) => event.detail === "explore" && draw());
  addEventListener("resize", () => requestAnimationFrame(draw));
  restore();
})();
