// Chooses rows and sorts tables, enlarges figures, marks the section in view, shows code.
const all = (what, where = document) => [...where.querySelectorAll(what)];
const make = (name, text, more) =>
  Object.assign(document.createElement(name), { textContent: text }, more);
const root = document.documentElement;
root.classList.add("scripted");

const folds = all("details.code");
if (folds.length) {
  const label = make("label", " Show code", { className: "switch" });
  const toggle = make("input", "", { type: "checkbox" });
  toggle.setAttribute("role", "switch");
  toggle.onchange = () => {
    root.classList.toggle("with-code", toggle.checked);
    for (const fold of folds) fold.open = toggle.checked;
  };
  label.prepend(toggle);
  all("h1")[0].after(label);
}

// The columns of text before the numbers become choices; "all" is a group or every row.
for (const table of all(".chooser table")) {
  const rows = all("tbody tr", table), heads = all("thead th", table);
  const form = make("form", "", { className: "choices" });
  const told = make("p", "", { className: "caption" });
  told.setAttribute("role", "status");
  const choices = heads.slice(0, heads.findIndex((head) => head.matches(".number")));
  const filters = choices.map((head, place) => {
    const held = new Set(rows.map((row) => row.cells[place].textContent));
    const label = make("label", head.textContent), select = make("select");
    for (const name of new Set(["all", ...held])) select.append(make("option", name));
    label.append(select);
    form.append(label);
    return (row) => { // the choice stands above: no need of its column
      const chosen = row.cells[place], one = held.has(select.value);
      heads[place].hidden = chosen.hidden = one;
      return !one || select.value === chosen.textContent;
    };
  });
  form.onchange = () => {
    for (const row of rows) row.hidden = filters.map((fits) => fits(row)).includes(false);
    const shown = rows.filter((row) => !row.hidden);
    told.textContent = shown.length ? "" : "Too few faces in this group.";
  };
  form.onchange();
  table.closest(".scroll").before(form, told);
}

const number = (text) => parseFloat(text.replace(/[,\s]/g, "").replace("\u2212", "-"));
const order = (a, b) => {
  const [m, n] = [number(a), number(b)];
  return isNaN(m) || isNaN(n) ? isNaN(m) - isNaN(n) || a.localeCompare(b) : m - n;
};
for (const table of all("article table")) {
  const rows = all("tbody tr", table), heads = all("thead th", table);
  if (rows.length < 3 || table.tHead.rows.length > 1) continue;
  heads.forEach((head, place) => {
    const button = make("button", head.textContent);
    head.replaceChildren(button);
    button.onclick = () => { // up, down, as it was
      const was = head.getAttribute("aria-sort");
      const now = was ? was === "ascending" && "descending" : "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      if (now) head.setAttribute("aria-sort", now);
      const text = (row) => row.cells[place].textContent;
      const sorted = [...rows].sort((a, b) => order(text(a), text(b)));
      if (now === "descending") sorted.reverse();
      table.tBodies[0].append(...(now ? sorted : rows));
    };
  });
}

const large = make("dialog", "", { onclick: () => large.close() });
document.body.append(large);
for (const box of all("figure.picture .scroll")) {
  const picture = box.firstElementChild;
  const open = () => {
    large.replaceChildren(make("button", "Close"), picture.cloneNode(true));
    large.showModal();
  };
  picture.onclick = open;
  box.after(make("button", "Enlarge", { className: "enlarge", onclick: open }));
}

const links = all("nav.contents a");
const parts = links.map((link) => document.getElementById(link.hash.slice(1)));
const mark = () => {
  const passed = parts.filter((part) => part.getBoundingClientRect().top < innerHeight / 4);
  const here = links[passed.length - 1], before = all("[aria-current]")[0];
  if (here === before) return;
  before?.removeAttribute("aria-current");
  here?.setAttribute("aria-current", "true");
  const nav = here?.closest("nav");
  if (nav) nav.scrollTop = here.offsetTop - nav.clientHeight / 2;
};
const fit = () => { // a box that need not scroll is no stop for the keyboard
  for (const box of all(".scroll")) box.tabIndex = box.scrollWidth > box.clientWidth ? 0 : -1;
  mark();
};
onscroll = mark;
onresize = fit;
fit();
