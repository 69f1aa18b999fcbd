// Drawing only: pictures, boxes, plots and tables from one answer of the server.

const SVG = "http://www.w3.org/2000/svg";
const LABELLED = "as annotators of UTKFace would label it";
const TASKS = { age: "Age: what makes it look older", gender: "Gender", ethnicity: "Ethnicity" };
const heatChoices = [];  // task and strength for each face, kept when another network is chosen

const percent = (share) => `${Math.round(share * 100)} %`;
const years = (value) => String(Math.round(value));
const best = (shares) => Object.entries(shares).reduce((a, b) => (b[1] > a[1] ? b : a));

function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value; else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function shape(tag, attributes, text = "") {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}

export const decodePicture = (file) => createImageBitmap(file, { imageOrientation: "from-image" });

// The first frame, upright, at most 1600 pixels a side.
export function draw(canvas, bitmap) {
  blank(canvas, bitmap);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
}

// For a picture that the server can read and the browser cannot.
export function blank(canvas, { width, height }) {
  const scale = Math.min(1, 1600 / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
}

export function showMarks(holder, answer, whole) {
  for (const old of holder.querySelectorAll(".mark")) old.remove();
  const count = whole ? 0 : answer.faces.length;
  holder.querySelector("canvas").setAttribute("aria-label",
    `Your photograph${count ? `; ${count} ${count === 1 ? "face is" : "faces are"} boxed` : ""}`);
  if (whole) return;
  const clip = (value) => Math.min(1, Math.max(0, value));
  answer.faces.forEach((face, k) => {
    const [x, y, width, height] = face.box;
    const left = clip(x / answer.width), right = clip((x + width) / answer.width);
    const top = clip(y / answer.height), bottom = clip((y + height) / answer.height);
    const mark = element("a", { className: "mark", href: `#face-${k + 1}`,
      "aria-label": `Face ${k + 1}: go to what was read` },
      element("span", { "aria-hidden": "true" }, String(k + 1)));
    mark.style.left = `${left * 100}%`;
    mark.style.top = `${top * 100}%`;
    mark.style.width = `${(right - left) * 100}%`;
    mark.style.height = `${(bottom - top) * 100}%`;
    holder.append(mark);
  });
}

// A distribution over the years on [0, width] x [0, base]; the scale is the same for every plot.
function curve(age, width, base, margin) {
  const last = age.distribution.length - 1, peak = Math.max(...age.distribution);
  const x = (year) => margin + (Math.min(Math.max(year, 0), last) / last) * (width - 2 * margin);
  const y = (share) => base - (share / peak) * (base - 8);
  const points = age.distribution.map((share, year) => `${x(year).toFixed(1)},${y(share).toFixed(1)}`);
  const parts = [
    shape("rect", { class: "band", x: x(age.low), y: 4, height: base - 4,
      width: Math.max(1, x(age.high) - x(age.low)) }),
    shape("polygon", { class: "curve", points: `${x(0)},${base} ${points.join(" ")} ${x(last)},${base}` }),
    shape("line", { class: "mean", x1: x(age.mean), x2: x(age.mean), y1: 4, y2: base }),
    shape("line", { class: "axis", x1: margin, x2: width - margin, y1: base, y2: base })];
  return { x, last, parts };
}

function agePlot(age) {
  const width = 520, height = 110, base = 88;
  const mode = age.distribution.indexOf(Math.max(...age.distribution));
  const plot = shape("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img",
    "aria-label": `Distribution over ages: most probable ${mode}, ` +
      `80 percent between ${years(age.low)} and ${years(age.high)} years` });
  const { x, last, parts } = curve(age, width, base, 8);
  plot.append(...parts);
  for (let year = 0; year <= last; year += 20) {
    const anchor = year === 0 ? "start" : "middle";
    plot.append(shape("text", { x: x(year), y: base + 16, "text-anchor": anchor }, String(year)));
  }
  plot.append(shape("text", { x: width - 8, y: base + 16, "text-anchor": "end" }, "years"));
  return plot;
}

function smallPlot(age) {
  const plot = shape("svg", { viewBox: "0 0 120 40", class: "plot", "aria-hidden": "true" });
  plot.append(...curve(age, 120, 38, 1).parts);
  return plot;
}

function bars(name, shares) {
  const rows = Object.entries(shares).map(([label, share]) => {
    const fill = element("span", { className: "fill" });
    fill.style.width = `${share * 100}%`;
    return element("tr", {}, element("th", { scope: "row" }, label),
      element("td", { "aria-hidden": "true" }, element("span", { className: "track" }, fill)),
      element("td", { className: "share" }, percent(share)));
  });
  const caption = element("caption", {}, element("h4", {}, `${name} `,
    element("span", { className: "as-labelled" }, LABELLED)));
  return element("table", { className: "bars" }, caption, element("tbody", {}, ...rows));
}

function heatMap(face, k, changed) {
  const maps = face.heat_maps ?? {};
  if (!Object.keys(maps).length) {
    return element("p", { className: "fine" },
      "Grad-CAM finds no place in this face that speaks for the answers.");
  }
  const choice = heatChoice(k), stack = heatStack(face);
  stack.firstChild.alt = `Face ${k + 1} as the network sees it, with a heat-map over it`;
  const select = element("select", {}, ...Object.entries(TASKS).map(([task, label]) =>
    element("option", { value: task, disabled: !maps[task] },
      maps[task] ? label : `${label} (no evidence found)`)));
  const slider = element("input", { type: "range", min: "0", max: "100", step: "5" });
  const update = () => {
    slider.setAttribute("aria-valuetext", `${slider.value} percent`);
    Object.assign(choice, { task: select.value, strength: slider.value / 100 });
    paint(stack, face, choice);
    changed();
  };
  select.value = maps[choice.task] ? choice.task : Object.keys(maps)[0];
  slider.value = Math.round(choice.strength * 100);
  select.addEventListener("change", update);
  slider.addEventListener("input", update);
  update();
  return element("div", {}, element("h4", {}, "Where the evidence lies (Grad-CAM)"),
    element("div", { className: "heat" }, stack,
      element("div", { className: "heat-controls" },
        element("label", {}, "Evidence for", select),
        element("label", {}, "Strength of the heat-map", slider))));
}

function heatChoice(k) {
  heatChoices[k] ??= { task: "age", strength: 0.7 };
  return heatChoices[k];
}

function heatStack(face) {
  return element("div", { className: "heat-stack" },
    element("img", { src: face.crop, alt: "" }), element("img", { alt: "" }));
}

function paint(stack, face, choice) {
  const map = face.heat_maps?.[choice.task];
  stack.lastChild.hidden = !map;
  if (map) stack.lastChild.src = map;
  stack.lastChild.style.opacity = choice.strength;
}

function network(model, answer, k) {
  const item = element("li", {}, element("h5", {}, model.label));
  const face = answer?.faces?.[k];
  if (!face) {
    item.append(element("p", {}, answer ? "gave no answer" : "is being asked …"));
    return item;
  }
  const stack = heatStack(face);
  item.repaint = () => paint(stack, face, heatChoice(k));
  item.repaint();
  const shares = [face.gender, face.ethnicity].map((all) => {
    const [label, share] = best(all);
    return element("p", {}, `${label} ${percent(share)}`);
  });
  item.append(stack, element("p", {}, element("b", {}, years(face.age.mean)), " years ",
    element("span", { className: "range" }, `(${years(face.age.low)} to ${years(face.age.high)})`)),
    smallPlot(face.age), ...shares);
  return item;
}

function fillComparison(list, models, answers, k) {
  list.replaceChildren(...models.map((model) => network(model, answers.get(model.name), k)));
}

// Draws the comparison of every face again, with the answers that are there by now.
export function showComparison(holder, models, answers) {
  for (const list of holder.querySelectorAll(".networks")) {
    fillComparison(list, models, answers, Number(list.dataset.face));
  }
}

function card(face, k, models, answers, label) {
  const number = k + 1;
  const list = element("ul", { className: "networks" });
  list.dataset.face = k;
  const repaint = () => [...list.children].forEach((item) => item.repaint?.());
  const age = element("p", { className: "age-line" }, "about ",
    element("b", {}, years(face.age.mean)), " years, 80 % interval ",
    `${years(face.age.low)} to ${years(face.age.high)}`);
  const node = element("article", { className: "face", id: `face-${number}`, tabIndex: -1 },
    element("div", { className: "face-head" }, element("h3", { id: `face-${number}-title` },
      `Face ${number}`), element("p", { className: "fine" }, `read by ${label}`)),
    age, agePlot(face.age),
    element("div", { className: "split" }, bars("Gender", face.gender),
      bars("Ethnicity", face.ethnicity)),
    heatMap(face, k, repaint));
  if (models.length > 1) {
    fillComparison(list, models, answers, k);
    node.append(element("h4", {}, "The networks side by side ",
      element("span", { className: "as-labelled" }, LABELLED)), list);
  }
  node.setAttribute("aria-labelledby", `face-${number}-title`);
  return node;
}

export function showFaces(holder, answer, models, answers) {
  const label = models.find((model) => model.name === answer.model)?.label ?? answer.model;
  holder.replaceChildren(...answer.faces.map((face, k) => card(face, k, models, answers, label)));
}
