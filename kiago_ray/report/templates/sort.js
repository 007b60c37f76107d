for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => header.firstElementChild.addEventListener("click", () => {
    const down = header.getAttribute("aria-sort") === "ascending";
    headers.forEach(other => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    const number = header.classList.contains("n");
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, two) => {
      const a = one.cells[column], b = two.cells[column];
      if (!number) return sign * a.textContent.localeCompare(b.textContent);
      if (!a.dataset.v || !b.dataset.v) return !!b.dataset.v - !!a.dataset.v;
      return sign * (a.dataset.v - b.dataset.v);
    });
    table.tBodies[0].append(...rows);
  }));
}
