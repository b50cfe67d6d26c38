"use strict";
// A click on a heading sorts its table, the next one the other way round. What is no number comes last.
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => {
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const rows = [...table.tBodies[0].rows];
    const numeric = rows.some((row) => "v" in row.cells[column].dataset);
    const key = ({ cells: { [column]: cell } }) => (numeric ? parseFloat(cell.dataset.v) : cell.textContent);
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!numeric) return sign * x.localeCompare(y, "en", { numeric: true });
      return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y);
    });
    table.tBodies[0].append(...rows);
    headings.forEach((other) => other.setAttribute("aria-sort", "none"));
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  }));
}
// A narrow page shows the columns that matter; this button all of them.
for (const button of document.querySelectorAll("button.whole")) {
  button.addEventListener("click", () => {
    const whole = document.getElementById(button.getAttribute("aria-controls")).classList.toggle("whole");
    button.setAttribute("aria-pressed", String(whole));
    button.textContent = whole ? "Fewer columns" : "All columns";
  });
}
