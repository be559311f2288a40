for (const table of document.querySelectorAll("table.sort")) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const order = (a, b) => {
    const [x, y] = [Number.parseFloat(a), Number.parseFloat(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
  };
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const rows = [...table.tBodies[0].rows];
    const known = rows.filter((row) => value(row, column) !== "-");
    const numbers = known.every((row) => !Number.isNaN(Number.parseFloat(value(row, column))));
    const now = head.getAttribute("aria-sort");
    const rising = now ? now === "descending" : !numbers;
    known.sort((a, b) => (rising ? 1 : -1) * order(value(a, column), value(b, column)));
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    table.tBodies[0].append(...known, ...rows.filter((row) => !known.includes(row)));
  }));
}
