"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);
  const made = (name, given = {}, ...content) => {
    const element = Object.assign(document.createElement(name), given);
    element.append(...content);
    return element;
  };

  // What one sees is a function of this, and this is what the address ends with.
  const state = { filter: "", group: "", family: "", only: false, theme: "", at: "", axes: {}, pair: [], sort: new Map(), hidden: new Set(), picked: new Set() };
  const tables = new Map(all("table:has(th[data-column])").map((table) => [table.id, table]));
  const known = new Set(all("tr[data-variant], article[data-variant]").map((e) => e.dataset.variant));

  function read() {
    const text = location.hash.slice(1);
    const given = new URLSearchParams(text.includes("=") ? text : "");
    state.filter = given.get("filter") ?? "";
    state.group = given.get("group") ?? "";
    state.family = given.get("family") ?? "";
    state.only = given.has("only");
    state.theme = ["light", "dark"].includes(given.get("theme")) ? given.get("theme") : "";
    state.at = given.get("at") ?? "";
    state.hidden = new Set(given.getAll("hide"));
    state.picked = new Set(given.getAll("pick").filter((label) => known.has(label)));
    state.axes = { x: given.get("x") ?? "", y: given.get("y") ?? "" };
    state.pair = given.getAll("compare").filter((label) => known.has(label)).slice(0, 2);
    state.sort = new Map();
    for (const part of given.getAll("sort")) {
      const [id, column, direction] = part.split(" ");
      if (tables.has(id) && ["ascending", "descending"].includes(direction)) state.sort.set(id, { column, direction });
    }
  }

  function write() {
    const given = new URLSearchParams();
    if (state.filter) given.set("filter", state.filter);
    if (state.group) given.set("group", state.group);
    if (state.family) given.set("family", state.family);
    if (state.only) given.set("only", "1");
    for (const [id, { column, direction }] of state.sort) given.append("sort", `${id} ${column} ${direction}`);
    for (const column of state.hidden) given.append("hide", column);
    for (const label of state.picked) given.append("pick", label);
    for (const way of ["x", "y"]) if (state.axes[way]) given.set(way, state.axes[way]);
    for (const label of state.pair) given.append("compare", label);
    if (state.theme) given.set("theme", state.theme);
    if (state.at) given.set("at", state.at);
    const text = given.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  // Sorting stays within a body of rows: nats of different kinds of pixels are never put in one order.
  const order = new Map(all("tbody tr").map((row, index) => [row, index]));
  const column = (table, name) => all("thead th", table).findIndex((th) => th.dataset.column === name);

  function keyOf(row, index) {
    const cell = row.cells[index];
    if (cell.tagName === "TH") return row.dataset.variant;
    if (cell.dataset.s !== undefined) return cell.dataset.s || null;
    return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
  }

  function arrange(id, table) {
    const chosen = state.sort.get(id);
    const index = chosen ? column(table, chosen.column) : -1;
    const sign = chosen?.direction === "descending" ? -1 : 1;
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => row.dataset.variant !== undefined);
      rows.sort((a, b) => {
        const x = index < 0 ? null : keyOf(a, index), y = index < 0 ? null : keyOf(b, index);
        if (x === null || y === null) return (x === null) - (y === null) || order.get(a) - order.get(b);
        const way = typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
        return sign * way || order.get(a) - order.get(b);
      });
      body.append(...rows);
    }
    all("thead th", table).forEach((th, i) => th.setAttribute("aria-sort", i === index ? chosen.direction : "none"));
  }

  function sortBy(table, th) {
    const now = state.sort.get(table.id), first = th.dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    if (now?.column !== th.dataset.column) state.sort.set(table.id, { column: th.dataset.column, direction: first });
    else if (now.direction === first) state.sort.set(table.id, { column: th.dataset.column, direction: other });
    else state.sort.delete(table.id);
    arrange(table.id, table);
    write();
    const sorted = state.sort.get(table.id);
    tell(sorted ? `Sorted by ${th.textContent}, ${sorted.direction}` : "In the order of the suite");
  }

  const groupOf = new Map(all("#overview tbody").flatMap((body) => all("tr[data-variant]", body).map((r) => [r.dataset.variant, body.dataset.group])));
  const inOverview = new Map(all("#overview tr[data-variant]").map((row) => [row.dataset.variant, row]));
  function shows(label) {
    const parts = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const row = inOverview.get(label);
    const text = `${label} ${row?.dataset.tags ?? ""}`.toLowerCase();
    return parts.every((part) => text.includes(part)) && (!state.group || groupOf.get(label) === state.group)
      && (!state.family || (row && one("td.family", row).dataset.s) === state.family)
      && (!state.only || !state.picked.size || state.picked.has(label));
  }

  function tell(text) {
    one(".tools [role=status]").textContent = text;
  }

  function filter() {
    const shown = new Map();
    for (const element of all("[data-variant]")) {
      const label = element.dataset.variant;
      if (!shown.has(label)) shown.set(label, shows(label));
      if (!element.closest("#summary")) element.classList.toggle("off", !shown.get(label));
      element.classList.toggle("on", state.picked.has(label));
    }
    for (const body of all("#overview tbody")) body.classList.toggle("off", !one("tr[data-variant]:not(.off)", body));
    root.classList.toggle("some", state.picked.size > 0);
    for (const button of all(".pick")) button.setAttribute("aria-pressed", state.picked.has(button.value));
    const rows = all("#overview tr[data-variant]"), left = rows.filter((row) => !row.classList.contains("off")).length;
    tell(left < rows.length ? `${left} of ${rows.length} variants` : "");
    document.dispatchEvent(new CustomEvent("changed"));
  }

  function pick(label) {
    state.picked.has(label) ? state.picked.delete(label) : state.picked.add(label);
    filter();
    write();
  }

  function columns() {
    const table = tables.get("overview");
    all("thead th", table).forEach((th, index) => {
      const hide = state.hidden.has(th.dataset.column);
      for (const row of table.rows) if (!row.classList.contains("group")) row.cells[index].hidden = hide;
    });
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = made("button", { type: "button", className: "theme" });
  function paint() {
    state.theme ? (root.dataset.theme = state.theme) : delete root.dataset.theme;
    theme.textContent = (state.theme ? state.theme === "dark" : dark.matches) ? "Light" : "Dark";
    theme.setAttribute("aria-label", `${theme.textContent} colours`);
  }

  // Tabs, as in the ARIA authoring practices: one panel is seen, and arrow keys go from tab to tab.
  const tabs = new Map(all("nav a").map((tab) => [tab.hash.slice(1), tab]));
  function turn(id) {
    for (const [name, tab] of tabs) {
      const now = name === id;
      tab.setAttribute("aria-selected", now);
      tab.tabIndex = now ? 0 : -1;
      document.getElementById(name).classList.toggle("now", now);
    }
    measure();
    document.dispatchEvent(new CustomEvent("turned", { detail: id }));
  }

  function fold() {
    one("nav ul").setAttribute("role", "tablist");
    one("nav ul").setAttribute("aria-label", "Parts of the report");
    for (const [name, tab] of tabs) {
      tab.id = `tab-${name}`;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", name);
      tab.parentElement.setAttribute("role", "presentation");
      const panel = document.getElementById(name);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
    }
    one("nav ul").addEventListener("keydown", (event) => {
      const names = [...tabs.keys()], at = names.indexOf(event.target.hash?.slice(1));
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
      if (at < 0 || to === undefined) return;
      event.preventDefault();
      const name = names[(to + names.length) % names.length];
      turn(name);
      tabs.get(name).focus();
      state.at = name;
      write();
    });
  }

  function go(id) {
    const target = document.getElementById(id);
    if (!target) return;
    const panel = target.closest(".panel");
    if (panel) turn(panel.id);
    for (let e = target.closest("details"); e; e = e.parentElement.closest("details")) e.open = true;
    target.scrollIntoView();
    if (target.tabIndex >= -1) target.focus({ preventScroll: true });
  }

  function show() {
    const form = one("form[role=search]");
    form.elements.filter.value = state.filter;
    form.elements.group.value = state.group;
    if (form.elements.group.value !== state.group) form.elements.group.value = state.group = "";
    const families = form.elements.family;
    if (families) families.value = state.family;
    if (families?.value !== state.family) state.family = "";
    if (families && !state.family) families.value = "";
    form.elements.only.checked = state.only;
    for (const box of all("[name=column]", form)) box.checked = !state.hidden.has(box.value);
    for (const [id, table] of tables) arrange(id, table);
    columns();
    paint();
    filter();
  }

  // A figure as a file of its own: what the page's style says of it goes along.
  const LOOK = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "fill-opacity", "stroke-opacity", "font-size", "font-weight", "text-anchor", "visibility", "paint-order", "stroke-linejoin", "stroke-linecap", "image-rendering"];
  function save(svg, name) {
    const copy = svg.cloneNode(true), from = all("*", svg), to = all("*", copy);
    to.forEach((element, i) => {
      const look = getComputedStyle(from[i]);
      for (const property of LOOK) element.style.setProperty(property, look.getPropertyValue(property));
    });
    const look = getComputedStyle(root);
    copy.setAttribute("xmlns", svg.namespaceURI);
    copy.removeAttribute("style");
    copy.style.fontFamily = getComputedStyle(document.body).fontFamily;
    copy.style.fill = getComputedStyle(svg).fill;
    copy.style.background = look.backgroundColor;
    const url = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }));
    made("a", { href: url, download: `${name}.svg` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  // Tables that are wider than their place say so; those that fit do not.
  function measure() {
    for (const place of all(".wide")) {
      if (!place.clientWidth) continue;
      place.classList.toggle("scrolls", place.scrollWidth > place.clientWidth);
      place.classList.toggle("sinks", place.scrollHeight > place.clientHeight + 40);
      place.classList.toggle("fits", place.scrollWidth <= place.clientWidth);
    }
  }

  const MANY = 8; // pictures of a figure, of which each has its button beside the title
  function equip() {
    const sizes = new ResizeObserver(() => requestAnimationFrame(measure));
    for (const table of all(".wide > table")) sizes.observe(table);
    for (const place of all(".wide")) sizes.observe(place);
    for (const [, table] of tables) {
      for (const th of all("thead th[data-column]", table)) {
        const button = made("button", { type: "button" }, ...th.childNodes);
        button.addEventListener("click", () => sortBy(table, th));
        th.append(button);
      }
    }
    for (const th of all("#overview tbody th[scope=row]")) {
      const label = th.parentElement.dataset.variant;
      const button = made("button", { type: "button", className: "pick", value: label, title: "select" }, one(".key", th));
      button.setAttribute("aria-label", `Select ${label}`);
      button.addEventListener("click", () => pick(label));
      th.prepend(button);
    }
    for (const figure of all(".plot")) {
      const drawings = all("svg", figure).filter((svg) => svg.getAttribute("role") === "img");
      const many = drawings.length > MANY && made("details", { className: "saves" }, made("summary", { textContent: `${drawings.length} SVG` }));
      if (many) one("h3", figure).after(many);
      drawings.forEach((svg, i) => {
        const name = figure.id.replace(/^figure-/, "") + (drawings.length > 1 ? `-${i + 1}` : "");
        const title = one("title", svg)?.textContent ?? name;
        const button = made("button", { type: "button", className: "save", textContent: drawings.length > 1 ? `SVG ${i + 1}` : "SVG" });
        button.setAttribute("aria-label", `Save as SVG: ${title}`);
        button.addEventListener("click", () => save(svg, name));
        (many || one("h3", figure)).append(button);
      });
      figure.addEventListener("click", (event) => {
        const found = event.target.closest(".drawing [data-variant]");
        if (found) pick(found.dataset.variant);
      });
    }
    one("nav").append(theme);
    theme.addEventListener("click", () => {
      const now = state.theme || (dark.matches ? "dark" : "light");
      state.theme = now === "dark" ? "light" : "dark";
      paint();
      write();
    });
    dark.addEventListener("change", paint);
    if (navigator.clipboard) {
      const copy = made("button", { type: "button", className: "save", textContent: "copy" });
      copy.addEventListener("click", () => navigator.clipboard.writeText(one("#command").textContent).then(() => (copy.textContent = "copied"), () => copy.remove()));
      one("#command").after(copy);
    }
    const form = one("form[role=search]");
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      const { name, value, checked } = event.target;
      if (name === "column") checked ? state.hidden.delete(value) : state.hidden.add(value);
      else state[name] = name === "only" ? checked : value;
      name === "column" ? columns() : filter();
      write();
    });
    form.elements.reset.addEventListener("click", () => {
      Object.assign(state, { filter: "", group: "", family: "", only: false, axes: {}, pair: [], sort: new Map(), hidden: new Set(), picked: new Set() });
      show();
      write();
    });
    document.addEventListener("click", (event) => {
      const menu = one(".columns");
      if (menu.open && !menu.contains(event.target)) menu.open = false;
      const link = event.target.closest('a[href^="#"]');
      if (!link) return;
      event.preventDefault();
      state.at = link.getAttribute("href").slice(1);
      write();
      if (tabs.has(state.at) && link.role === "tab") turn(state.at);
      else go(state.at);
    });
    document.addEventListener("keydown", (event) => {
      const menu = one(".columns");
      if (event.key !== "Escape" || !menu.open) return;
      menu.open = false;
      one("summary", menu).focus();
    });
    let closed = [];
    addEventListener("beforeprint", () => (closed = all("main details:not([open])")).forEach((e) => (e.open = true)));
    addEventListener("afterprint", () => closed.forEach((e) => (e.open = false)));
    addEventListener("hashchange", () => { read(); show(); go(state.at); });
  }

  window.report = { all, one, made, state, shows, pick, write };
  equip();
  fold();
  read();
  show();
  turn([...tabs.keys()][0]);
  if (state.at) go(state.at);
})();
