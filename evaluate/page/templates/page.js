"use strict";
// Tables of any length: the rows are data, and only one page of them is in the document.
(() => {
  const PAGE = 25;
  const tables = JSON.parse(document.getElementById("data").textContent);
  const collator = new Intl.Collator("en", { numeric: true });

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  const textOf = (cell) => (cell === null ? "" : typeof cell === "string" ? cell : String(cell[1]));

  function compare(a, b, kind) {
    if (kind !== "number") return collator.compare(textOf(a), textOf(b));
    return a[0] - b[0];
  }

  function cellOf(cell, kind, first) {
    const made = element(first ? "th" : "td", first ? { scope: "row" } : {});
    if (kind === "number") made.className = "number";
    if (kind === "text" && textOf(cell).length > 40) made.className = "long";
    if (kind !== "media") made.textContent = textOf(cell);
    else if (cell) {
      const player = element(cell[0] === "video" ? "video" : "audio", { controls: "", preload: "none" });
      player.src = cell[1];
      made.append(player);
    }
    return made;
  }

  function build(place) {
    const name = place.dataset.table;
    const { caption, columns, rows } = tables[name];
    const searched = rows.map((row) => row.filter((_, k) => columns[k].kind !== "media").map(textOf).join("\u0001").toLowerCase());
    const chosen = columns.map(() => "");
    let words = "", page = 0, sorted = -1, direction = 1, shown = [];

    const controls = element("div", { class: "controls", role: "group", "aria-label": `Filters of: ${caption}` });
    const search = element("input", { type: "search", autocomplete: "off" });
    search.addEventListener("input", () => { words = search.value.trim().toLowerCase(); page = 0; select(); });
    controls.append(element("label", {}, "Filter by text", search));
    columns.forEach((column, k) => {
      if (column.kind !== "facet") return;
      const values = [...new Set(rows.map((row) => row[k]))].sort(collator.compare);
      if (values.length < 2) return;
      const choice = element("select", {}, element("option", { value: "-1" }, "all"));
      values.forEach((value, i) => choice.append(element("option", { value: String(i) }, value.slice(0, 80) || "(none)")));
      if (values.includes(column.preset) && column.preset) { choice.value = String(values.indexOf(column.preset)); chosen[k] = [column.preset]; }
      choice.addEventListener("change", () => {
        const i = Number(choice.value);
        chosen[k] = i < 0 ? "" : [values[i]];
        page = 0;
        select();
      });
      controls.append(element("label", {}, column.label, choice));
    });

    const heads = columns.map((column, k) => {
      if (column.kind === "media") return element("th", { scope: "col" }, column.label);
      const button = element("button", { type: "button" }, column.label);
      const head = element("th", { scope: "col", "aria-sort": "none" }, button);
      button.addEventListener("click", () => {
        direction = sorted === k ? -direction : column.kind === "number" ? -1 : 1;
        sorted = k;
        page = 0;
        heads.forEach((other, i) => { if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", i !== k ? "none" : direction > 0 ? "ascending" : "descending"); });
        select();
      });
      return head;
    });
    const body = element("tbody");
    const table = element("table", {}, element("caption", { class: "unseen" }, caption), element("thead", {}, element("tr", {}, ...heads)), body);
    const box = element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Table: ${caption}` }, table);
    const back = element("button", { type: "button" }, "Previous");
    const on = element("button", { type: "button" }, "Next");
    const status = element("span", { role: "status" });
    const turn = (by) => {
      if (page + by < 0 || (page + by) * PAGE >= shown.length) return;
      page += by;
      draw();
    };
    back.addEventListener("click", () => turn(-1));
    on.addEventListener("click", () => turn(1));

    function select() {
      shown = [];
      rows.forEach((row, i) => {
        if (words && !searched[i].includes(words)) return;
        if (chosen.every((value, k) => !value || row[k] === value[0])) shown.push(i);
      });
      if (sorted >= 0) {
        const { kind } = columns[sorted];
        const absent = (i) => kind === "number" && rows[i][sorted][0] === null;
        // What has no number comes last in both directions; of equals the given order stays.
        shown.sort((a, b) => absent(a) - absent(b) || (absent(a) ? 0 : direction * compare(rows[a][sorted], rows[b][sorted], kind)) || a - b);
      }
      draw();
    }

    function draw() {
      const start = page * PAGE, end = Math.min(start + PAGE, shown.length);
      body.replaceChildren(...shown.slice(start, end).map((i) =>
        element("tr", {}, ...rows[i].map((cell, k) => cellOf(cell, columns[k].kind, k === 0)))));
      status.textContent = shown.length ? `${start + 1} to ${end} of ${shown.length} rows` + (shown.length < rows.length ? ` (${rows.length} in all)` : "") : "no row fits";
      // Not `disabled`: a button that is takes the focus away from who has just pressed it.
      back.setAttribute("aria-disabled", String(page === 0));
      on.setAttribute("aria-disabled", String(end >= shown.length));
      back.hidden = on.hidden = shown.length <= PAGE;
    }

    place.append(controls, box, element("div", { class: "pager" }, back, on, status));
    select();
  }

  document.querySelectorAll("[data-table]").forEach(build);
  // Paper has nothing to click: everything that is folded is printed, and folded again.
  let folded = [];
  addEventListener("beforeprint", () => { folded = [...document.querySelectorAll("details:not([open])")]; folded.forEach((one) => { one.open = true; }); });
  addEventListener("afterprint", () => { folded.forEach((one) => { one.open = false; }); });
})();
