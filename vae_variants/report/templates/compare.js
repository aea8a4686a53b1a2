"use strict";
// Two variants side by side, sliders over latents, and pictures that open large. All pictures are those of the figures.
(() => {
  const { all, one, made, state, write, data, index, shown, choice } = window.report;
  const SVG = "http://www.w3.org/2000/svg";
  const [, high, wide] = data.shape, gap = Math.max(1, Math.round(Math.min(high, wide) / 14));

  // A picture of the page, or a part of it in its own pixels.
  function cut(image, [x, y, w, h] = [0, 0, Number(image.getAttribute("width")), Number(image.getAttribute("height"))], words = "") {
    const svg = document.createElementNS(SVG, "svg"), copy = document.createElementNS(SVG, "image");
    for (const name of ["width", "height", "href"]) copy.setAttribute(name, image.getAttribute(name));
    copy.style.imageRendering = "pixelated";
    svg.setAttribute("viewBox", `${x} ${y} ${w} ${h}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", words);
    svg.append(copy);
    return svg;
  }
  const imagesOf = (figure, label) => all(`#figure-${figure} svg [data-variant="${CSS.escape(label)}"] image, #figure-${figure} svg[data-variant="${CSS.escape(label)}"] image`);
  const panelsOf = (figure, label) => all(`#figure-${figure} svg[data-variant="${CSS.escape(label)}"]`);

  // Differences over the seeds that both have, with Student's t.
  function difference(a, b, metric) {
    const values = new Map(b.of.map((seed, i) => [seed, b.seeds[metric][i]]));
    const pairs = a.of.map((seed, i) => [a.seeds[metric][i], values.get(seed)]).filter(([p, q]) => typeof p === "number" && typeof q === "number");
    const d = pairs.map(([p, q]) => p - q), n = d.length;
    if (!n) return null;
    const mean = d.reduce((sum, v) => sum + v, 0) / n;
    if (n < 2) return { mean, half: null, n };
    const spread = Math.sqrt(d.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (n - 1) / n);
    return { mean, half: spread * data.t[Math.min(n - 1, data.t.length) - 1], n };
  }

  function verdict(found, better) {
    if (!found || found.half === null || found.n < 3) return "too few seeds";
    if (Math.abs(found.mean) <= found.half) return "no difference shown";
    if (better === "none") return found.mean > 0 ? "A is higher" : "B is higher";
    return (found.mean > 0) === (better === "higher") ? "A is better" : "B is better";
  }

  const section = one("#compare");
  const labels = data.variants.filter((v) => Object.keys(v.means).length).map((v) => [v.label, v.label]);
  if (labels.length < 2) return;
  const form = made("form", { className: "tools" }), body = made("div");
  form.setAttribute("aria-label", "The two variants");
  form.append(choice("a", "A", labels, labels[0][0]), choice("b", "B", labels, labels[1][0]));
  one(".note", section).remove();
  section.append(made("p", { className: "note", textContent: "Two rows that are selected in the table are chosen here." }), form, body);

  function pictures(a, b) {
    const found = [["samples", "Samples"], ["traversals", "Traversals"], ["latent_components", "Latents"], ["latent_plane", "Latent plane"]];
    const grid = made("div", { className: "sides" });
    for (const [figure, title] of found) {
      const both = [a, b].map((v) => panelsOf(figure, v.label));
      if (!both[0].length && !both[1].length) continue;
      for (const [side, panels] of both.entries()) {
        const cell = made("div", { className: "side" }, made("h3", { textContent: `${title}, ${"AB"[side]}: ${[a, b][side].label}` }));
        if (!panels.length) cell.append(made("p", { className: "note", textContent: "none" }));
        for (const panel of panels) {
          const image = one("image", panel);
          if (image) cell.append(cut(image, undefined, `${title} of ${[a, b][side].label}`));
          else cell.append(plain(panel));
        }
        grid.append(cell);
      }
    }
    const rows = [["test images", one("#figure-reconstructions image")], [a.label, imagesOf("reconstructions", a.label)[0]], [b.label, imagesOf("reconstructions", b.label)[0]]];
    if (rows[1][1] || rows[2][1]) {
      const cell = made("div", { className: "side both" }, made("h3", { textContent: "Reconstructions of the same images" }));
      for (const [label, image] of rows) cell.append(made("p", { className: "note", textContent: image ? label : `${label}: none` }), ...(image ? [cut(image, undefined, `reconstructions, ${label}`)] : []));
      grid.append(cell);
    }
    return grid;
  }

  function plain(panel) {
    const copy = panel.cloneNode(true);
    for (const element of [copy, ...all("[id], [data-variant]", copy)]) {
      element.removeAttribute("id");
      element.removeAttribute("data-variant");
    }
    copy.setAttribute("aria-label", one("title", panel).textContent);
    copy.removeAttribute("aria-labelledby");
    for (const element of all("[clip-path]", copy)) element.removeAttribute("clip-path");
    return copy;
  }

  function table(a, b) {
    const head = ["metric", "A", "B", "A − B", "95 % interval", "n", "verdict"];
    const found = made("table", { id: "differences" }, made("caption", { className: "unseen", textContent: "Paired differences of every metric" }));
    const top = made("tr");
    for (const words of head) top.append(Object.assign(made("th", { textContent: words }), { scope: "col" }));
    const rows = made("tbody");
    data.metrics.forEach((metric, i) => {
      if (!a.means[i] || !b.means[i]) return;
      const d = difference(a, b, i);
      const mixed = a.pixels !== b.pixels && ["nats", "bits"].includes(metric.unit) ? "other pixels: not comparable" : "";
      const cells = [shown(a.means[i][0]), shown(b.means[i][0]), shown(d?.mean), d?.half == null ? "–" : `${shown(d.mean - d.half)} to ${shown(d.mean + d.half)}`, String(d?.n ?? 0), mixed || verdict(d, metric.better)];
      rows.append(made("tr", {}, Object.assign(made("th", { textContent: metric.title }), { scope: "row" }), ...cells.map((textContent) => made("td", { textContent }))));
    });
    found.append(made("thead", {}, top), rows);
    const place = made("div", { className: "wide fits", tabIndex: 0 }, found);
    place.setAttribute("role", "region");
    place.setAttribute("aria-label", "Paired differences of every metric");
    return made("div", {}, made("h3", { textContent: "Paired differences of every metric" }), place, made("p", { className: "note", textContent: "Means; A − B over the seeds that both have, with Student's t. The intervals are not adjusted for their number. Timings are of one machine." }));
  }

  function compare() {
    const [a, b] = ["a", "b"].map((side) => data.variants.find((v) => v.label === form.elements[side].value));
    body.replaceChildren(pictures(a, b), table(a, b));
  }
  function follow() {
    const picked = [...state.picked].filter((label) => labels.some(([each]) => each === label));
    const two = state.pair.length === 2 ? state.pair : picked.length === 2 ? picked : [];
    two.forEach((label, i) => labels.some(([each]) => each === label) && (form.elements["ab"[i]].value = label));
    if (section.classList.contains("now")) compare();
  }
  form.addEventListener("input", () => {
    state.pair = ["a", "b"].map((side) => form.elements[side].value);
    write();
    compare();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("changed", follow);
  document.addEventListener("turned", follow);
  follow();

  // Sliders over what was decoded in advance: the units of a traversal, and the plane of two latent units.
  function slider(name, words, most, value) {
    const input = made("input", { type: "range", name, min: 0, max: most, step: 1, value });
    return made("label", {}, `${words} `, input);
  }
  function sliders() {
    const sources = [];
    for (const figure of ["traversals", "latent_plane"]) {
      for (const panel of all(`#figure-${figure} svg[data-variant]`)) if (one("image", panel)) sources.push([panel.dataset.variant, figure, one("image", panel)]);
    }
    if (!sources.length) return;
    const box = made("form", { className: "tools sliders" }), picture = made("div", { className: "slid" }), words = made("p", { className: "note" });
    words.setAttribute("role", "status");
    const moved = made("span");
    box.append(choice("source", "Variant", sources.map(([label, figure], i) => [String(i), figure === "traversals" ? label : `${label}, plane of two units`]), "0"), moved);
    const heading = made("h3", { textContent: "Move along the latents" });
    (one("#latent > h2") ?? one("#pictures > h2")).after(heading, box, picture, words, made("p", { className: "note", textContent: "Decoded in advance: the first test image moved along one unit at a time, or the grid of a plane of two units." }));
    const count = (image) => ["width", "height"].map((side, i) => Math.round((Number(image.getAttribute(side)) + gap) / ((i ? high : wide) + gap)));
    function tile() {
      const [label, figure, image] = sources[Number(box.elements.source.value)], [columns, rows] = count(image);
      const across = Number(box.elements.across.value), up = Number(box.elements.up.value), row = figure === "traversals" ? up : rows - 1 - up;
      picture.replaceChildren(cut(image, [across * (wide + gap), row * (high + gap), wide, high], `decoded by ${label}`));
      words.textContent = figure === "traversals" ? `unit ${up + 1} of ${rows} shown, by spread; ${shown(((across / (columns - 1)) * 6 - 3))} standard deviations` : `z₁ at place ${across + 1}, z₂ at place ${up + 1} of ${columns}`;
    }
    function begin() {
      const [, figure, image] = sources[Number(box.elements.source.value)], [columns, rows] = count(image), plane = figure !== "traversals";
      moved.replaceChildren(slider("up", plane ? "z₂" : "unit", rows - 1, plane ? Math.floor(rows / 2) : 0), slider("across", plane ? "z₁" : "steps along it", columns - 1, Math.floor(columns / 2)));
      tile();
    }
    box.addEventListener("input", (event) => (event.target.name === "source" ? begin() : tile()));
    box.addEventListener("submit", (event) => event.preventDefault());
    begin();
  }
  sliders();

  // A grid of images opens large.
  const dialog = made("dialog", { className: "zoom" }), inside = made("div"), close = made("button", { type: "button", textContent: "Close" });
  dialog.setAttribute("aria-label", "A picture, large");
  dialog.append(close, inside);
  document.body.append(dialog);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  for (const svg of all("#pictures .drawing svg, #latent .drawing svg")) {
    if (!one("image", svg)) continue;
    const button = made("button", { type: "button", className: "enlarge", textContent: "⤢" });
    button.setAttribute("aria-label", `Enlarge ${one("title", svg).textContent}`);
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      inside.replaceChildren(made("h3", { textContent: one("title", svg).textContent }), svg.dataset.variant ? cut(one("image", svg), undefined, one("desc", svg).textContent) : plain(svg));
      dialog.showModal();
    });
    const frame = made("div", { className: "frame" });
    frame.style.setProperty("--w", svg.style.getPropertyValue("--w"));
    svg.replaceWith(frame);
    frame.append(svg, button);
  }
})();
