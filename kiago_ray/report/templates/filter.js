// All words of the text must occur in the row's columns of class f; small letters match both, so that "Co" isn't "CO"
// and "laniaso" finds LaNiAsO.
for (const form of document.querySelectorAll("form.filter")) {
  const {text, passed, count} = form.elements;
  const table = form.nextElementSibling.querySelector("table");
  const rows = [...table.tBodies[0].rows];
  const columns = [...table.tHead.rows[0].cells].flatMap((cell, i) => cell.classList.contains("f") ? [i] : []);
  const contents = rows.map(row => columns.map(i => row.cells[i].textContent).join("\n"));
  const apply = () => {
    const fold = text.value === text.value.toLowerCase();
    const sought = text.value.split(/\s+/);
    let shown = 0;
    rows.forEach((row, i) => {
      const content = fold ? contents[i].toLowerCase() : contents[i];
      const failed = passed.checked && row.classList.contains("failed");
      row.hidden = failed || !sought.every(word => content.includes(word));
      shown += !row.hidden;
    });
    count.value = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} shown`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", event => event.preventDefault());
  form.hidden = false;
  apply();
}
