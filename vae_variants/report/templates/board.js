"use strict";
(() => {
  const form = document.querySelector("#matrix form");
  if (!form) return;
  const values = JSON.parse(document.getElementById("data").textContent);
  const rows = [...document.querySelectorAll("#cells tr[data-variant]")];
  const chosen = form.elements.metric;

  function show() {
    rows.forEach((row, i) => values[chosen.value][i].forEach((cell, j) => {
      row.cells[j + 1].replaceChildren(...(cell ? [cell[0], Object.assign(document.createElement("small"), { textContent: cell[1] })] : []));
    }));
    const filled = rows.filter((row) => [...row.cells].slice(1).some((cell) => cell.textContent));
    rows.forEach((row) => row.classList.toggle("off", !filled.includes(row)));
    for (const body of document.querySelectorAll("#cells tbody")) body.classList.toggle("off", !body.querySelector("tr[data-variant]:not(.off)"));
    form.querySelector("[role=status]").textContent = `${filled.length} of ${rows.length} variants and baselines were measured`;
  }

  form.hidden = false;
  document.querySelector("[data-without-script]").remove();
  form.addEventListener("submit", (event) => event.preventDefault());
  chosen.addEventListener("change", show);
  show();
})();
