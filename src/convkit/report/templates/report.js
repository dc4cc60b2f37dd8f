"use strict";
// The filter. Without a script the page shows every row; the filter itself is hidden then. One row has no filter.
(() => {
  const form = document.getElementById("page:filter");
  if (form === null) return;
  const [verdict, family, text] = ["verdict", "family", "text"].map((name) => form.elements[name]);
  const counted = document.getElementById("page:shown");
  const rows = [...document.querySelectorAll(".glance tbody")].map((line) => ({
    parts: [line, ...document.querySelectorAll(`[data-of="${line.dataset.row}"]`)],
    verdict: line.dataset.verdict,
    family: line.dataset.family,
    text: `${line.textContent} ${line.dataset.text}`.toLowerCase(),
  }));

  const show = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const proved = row.verdict.startsWith("yes");
      const fits =
        (verdict.value === "" || row.verdict === verdict.value || (verdict.value === "any but proved" && !proved)) &&
        (family.value === "" || row.family === family.value) &&
        words.every((word) => row.text.includes(word));
      for (const part of row.parts) part.hidden = !fits;
      shown += fits;
    }
    const all = rows.length.toLocaleString("en");
    counted.textContent = shown === rows.length ? `All ${all} rows` : `${shown.toLocaleString("en")} of ${all} rows`;
  };

  form.addEventListener("input", show);
  form.addEventListener("reset", () => setTimeout(show));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show(); // a browser may keep what was typed before the page was loaded again
})();
