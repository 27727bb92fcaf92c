"use strict";
// Tables of any length: the rows are data, and only one page of them is in the document.
(() => {
  const PAGE = 25, PRINTED = 500;
  const printed = [];
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

  // A button until it is pressed: 25 players are much to look at, and to go through by keyboard.
  function playButton([kind, address], name) {
    const button = element("button", { type: "button", class: "play", "aria-label": `Play ${name}` }, "▶ play");
    button.addEventListener("click", () => {
      const player = element(kind === "video" ? "video" : "audio", { controls: "", tabindex: "0", "aria-label": name });
      player.addEventListener("error", () => player.replaceWith(element("span", { role: "alert" }, `not there: ${address}`)));
      player.src = address;
      button.replaceWith(player);
      player.focus();
      player.play().catch(() => {});
    });
    return button;
  }

  function cellOf(cell, kind, first, name) {
    const made = element(first ? "th" : "td", first ? { scope: "row" } : {});
    if (kind === "number") made.className = "number";
    if (kind === "text" && textOf(cell).length > 40) made.className = "long";
    if (kind !== "media") made.textContent = textOf(cell);
    else if (cell) made.append(playButton(cell, name));
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
      const head = element("th", { scope: "col", "aria-sort": "none", class: column.kind }, button);
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
    const status = element("span", { role: "status" }), only = element("span", { class: "printed" });
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

    function draw(most = PAGE) {
      const start = most > PAGE ? 0 : page * PAGE, end = Math.min(start + most, shown.length);
      // A column that all rows were chosen by says nothing more.
      const hidden = columns.map((_, k) => k > 0 && Boolean(chosen[k]));
      heads.forEach((head, k) => { head.hidden = hidden[k]; });
      body.querySelectorAll("audio, video").forEach((player) => player.pause());
      body.replaceChildren(...shown.slice(start, end).map((i) =>
        element("tr", {}, ...rows[i].flatMap((cell, k) => hidden[k] ? [] : [cellOf(cell, columns[k].kind, k === 0, textOf(rows[i][0]))]))));
      const of = [...chosen.map((value) => value && value[0]), words].filter(Boolean);
      only.textContent = of.length ? `, of: ${of.join(", ")}` : "";
      status.textContent = shown.length ? `${start + 1} to ${end} of ${shown.length} rows` + (shown.length < rows.length ? ` (${rows.length} in all)` : "") : "no row fits";
      // Not `disabled`: a button that is takes the focus away from who has just pressed it.
      back.setAttribute("aria-disabled", String(page === 0));
      on.setAttribute("aria-disabled", String(end >= shown.length));
      back.hidden = on.hidden = shown.length <= PAGE;
    }

    place.append(controls, box, element("div", { class: "pager" }, back, on, element("span", {}, status, only)));
    select();
    printed.push(draw);
  }

  document.querySelectorAll("[data-table]").forEach(build);
  // One clip at a time.
  document.addEventListener("play", (event) => {
    document.querySelectorAll("audio, video").forEach((player) => { if (player !== event.target) player.pause(); });
  }, true);
  // Paper has nothing to click: rows of other pages and everything that is folded are printed, and put back.
  let folded = [];
  addEventListener("beforeprint", () => {
    printed.forEach((draw) => draw(PRINTED));
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((one) => { one.open = true; });
  });
  addEventListener("afterprint", () => {
    printed.forEach((draw) => draw());
    folded.forEach((one) => { one.open = false; });
  });
})();
