
"use strict";
// Sortable tables, a filter for long ones, the pictures behind a cell. Text of strangers only ever goes through textContent.

function made(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// --- tables -------------------------------------------------------------------------------------------------------

function valueOf(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.v === undefined ? cell.textContent.trim() : cell.dataset.v;
  if (text === "" || text === "–") return null;
  const number = Number(text.replace(/,/g, ""));
  return Number.isNaN(number) ? text : number;
}

function compared(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sortBy(table, column, head) {
  const before = head.getAttribute("aria-sort");
  const firstWay = head.classList.contains("n") ? "descending" : "ascending";
  const other = firstWay === "ascending" ? "descending" : "ascending";
  const way = before === firstWay ? other : firstWay;
  for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", way);
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => [valueOf(row, column), row]);
  const sign = way === "ascending" ? 1 : -1;
  rows.sort(([a], [b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compared(a, b)));
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table[data-sortable]")) {
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = made("button", "", head.textContent);
    button.type = "button";
    button.addEventListener("click", () => sortBy(table, column, head));
    head.replaceChildren(button);
  });
}

for (const table of document.querySelectorAll("table[data-filter]")) {
  const rows = Array.from(table.tBodies[0].rows);
  if (rows.length <= 20) continue;
  const tools = made("div", "tools");
  const input = made("input");
  const told = made("span", "hint", `${rows.length} classes`);
  input.type = "search";
  input.placeholder = "find a class";
  input.setAttribute("aria-label", "find a class");
  told.setAttribute("role", "status");
  input.addEventListener("input", () => {
    const wanted = input.value.toLocaleLowerCase();
    let found = 0;
    for (const row of rows) {
      row.hidden = !row.cells[0].textContent.toLocaleLowerCase().includes(wanted);
      found += !row.hidden;
    }
    told.textContent = `${found} of ${rows.length} classes`;
  });
  tools.append(input, told);
  table.parentElement.before(tools);
}

// --- the pictures behind a cell -----------------------------------------------------------------------------------

const block = document.getElementById("data");
const data = block ? JSON.parse(block.textContent) : { classes: [], folder: "", cells: [], pictures: {} };
const cells = new Map(data.cells.map((cell) => [`${cell[0]} ${cell[1]}`, cell]));

function pictureOf(position) {
  const inGallery = document.getElementById(`picture${position}`);
  return inGallery ? inGallery.src : data.pictures[position] || "";
}

function words([t, p, count]) {
  const images = `${count} ${count === 1 ? "image" : "images"}`;
  const of = data.classes[t];
  return t === p ? `${images} of ${of}, answered right` : `${images} of ${of}, taken for ${data.classes[p]}`;
}

function show(key) {
  const dialog = document.getElementById("behind");
  const cell = cells.get(key);
  if (!cell) return;
  const [t, p, count, images] = cell;
  dialog.querySelector("h2").textContent = words(cell);
  dialog.querySelector(".said").textContent = t === p ? "First those it was least sure of." : "First those it was surest of.";
  const gallery = [];
  const names = [];
  for (const [position, name, confidence] of images) {
    const uri = pictureOf(position);
    const item = made("li");
    const title = data.folder + name;
    if (uri) {
      const frame = made("div", "images");
      const image = made("img");
      image.src = uri;
      image.alt = name;
      frame.append(image);
      const answer = made("p", "answer");
      answer.append(made("bdi", "", data.classes[p]), made("span", "n", confidence.toFixed(3)));
      const file = made("p", "file");
      file.append(made("bdi", "", name.slice(name.lastIndexOf("/") + 1)));
      item.append(frame, answer, file);
      gallery.push(item);
    } else {
      item.append(made("bdi", "", name), ` ${confidence.toFixed(3)}`);
      names.push(item);
    }
    item.title = title;
  }
  dialog.querySelector(".gallery").replaceChildren(...gallery);
  dialog.querySelector(".names").replaceChildren(...names);
  const rest = count - images.length;
  dialog.querySelector(".more").textContent = rest > 0 ? `and ${rest} more` : "";
  dialog.showModal();
  dialog.scrollTop = 0;
}

for (const place of document.querySelectorAll("[data-cell]")) {
  const button = made("button");
  button.type = "button";
  button.dataset.key = place.dataset.cell;
  const cell = cells.get(place.dataset.cell);
  if (cell) button.setAttribute("aria-label", words(cell));
  button.append(...place.childNodes);
  place.replaceWith(button);
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-key]");
  if (button) show(button.dataset.key);
});
const dialog = document.getElementById("behind");
if (dialog) {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

// In the matrix Tab stops once; arrows go on from there to the next cell that is not empty.
const matrix = document.querySelector("[data-matrix]");
if (matrix) {
  const buttons = Array.from(matrix.querySelectorAll("[data-key]"));
  buttons.forEach((button, index) => (button.tabIndex = index ? -1 : 0));
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  matrix.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    const from = event.target.closest("[data-key]");
    if (!step || !from) return;
    event.preventDefault();
    let [row, column] = from.dataset.key.split(" ").map(Number);
    while (row >= 0 && column >= 0 && row < data.classes.length && column < data.classes.length) {
      [row, column] = [row + step[0], column + step[1]];
      const next = buttons.find((button) => button.dataset.key === `${row} ${column}`);
      if (next) {
        from.tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
        return;
      }
    }
  });
  const tools = made("div", "tools");
  const toggle = made("button", "", "Show % of the row");
  toggle.type = "button";
  toggle.addEventListener("click", () => {
    const shares = matrix.classList.toggle("shares");
    toggle.textContent = shares ? "Show numbers of images" : "Show % of the row";
  });
  tools.append(toggle);
  matrix.parentElement.before(tools);
}
// --- many classes: a point for every pair -------------------------------------------------------------------------

const canvas = document.querySelector("canvas");
for (const hint of document.querySelectorAll("#matrix .hint")) {
  hint.textContent = `Choose a ${canvas ? "point" : "cell"} to see the pictures behind it.`;
}
if (canvas) {
  const side = canvas.width / data.classes.length;
  const size = Math.max(side, 3);
  const totals = new Map();
  for (const [t, , count] of data.cells) totals.set(t, (totals.get(t) || 0) + count);
  const context = canvas.getContext("2d");
  for (const [t, p, count] of data.cells) {
    const strength = 0.25 + 0.75 * Math.sqrt(count / totals.get(t));
    context.fillStyle = t === p ? `rgb(56 126 230 / ${strength})` : `rgb(226 96 40 / ${strength})`;
    context.fillRect((p + 0.5) * side - size / 2, (t + 0.5) * side - size / 2, size, size);
  }
  const told = document.getElementById("under-pointer");
  const nearest = (event) => {
    const box = canvas.getBoundingClientRect();
    const column = ((event.clientX - box.left) / box.width) * data.classes.length - 0.5;
    const row = ((event.clientY - box.top) / box.height) * data.classes.length - 0.5;
    const reach = Math.max(0.5, (8 * data.classes.length) / box.width);
    let best = null;
    let distance = reach;
    for (const cell of data.cells) {
      const away = Math.max(Math.abs(cell[0] - row), Math.abs(cell[1] - column));
      if (away <= distance) [best, distance] = [cell, away];
    }
    return best;
  };
  canvas.addEventListener("pointermove", (event) => {
    const cell = nearest(event);
    if (cell) told.textContent = words(cell);
  });
  canvas.addEventListener("click", (event) => {
    const cell = nearest(event);
    if (cell) show(`${cell[0]} ${cell[1]}`);
  });
}

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
