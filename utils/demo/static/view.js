// Drawing only: pictures, boxes, plots and tables from one answer of the server.

const SVG = "http://www.w3.org/2000/svg";
const LABELLED = "as annotators of UTKFace would label it";
const TASKS = { age: "Age: what makes it look older", gender: "Gender", ethnicity: "Ethnicity" };
const heatChoice = { task: "age", strength: 0.7 };

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

// The first frame, upright, at most 1600 pixels a side.
export async function drawPicture(canvas, file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, 1600 / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
}

export function showMarks(holder, answer, whole) {
  for (const old of holder.querySelectorAll(".mark")) old.remove();
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

function agePlot(age) {
  const width = 520, height = 110, base = 88, last = age.distribution.length - 1;
  const x = (year) => 8 + (Math.min(Math.max(year, 0), last) / last) * (width - 16);
  const peak = Math.max(...age.distribution);
  const y = (share) => base - (share / peak) * 78;
  const plot = shape("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", role: "img",
    "aria-label": `Distribution over ages: most probable ${age.distribution.indexOf(peak)}, ` +
      `80 percent between ${years(age.low)} and ${years(age.high)} years` });
  const points = age.distribution.map((share, year) => `${x(year).toFixed(1)},${y(share).toFixed(1)}`);
  plot.append(
    shape("rect", { class: "band", x: x(age.low), y: 8, height: base - 8,
      width: Math.max(1, x(age.high) - x(age.low)) }),
    shape("polygon", { class: "curve", points: `${x(0)},${base} ${points.join(" ")} ${x(last)},${base}` }),
    shape("line", { class: "mean", x1: x(age.mean), x2: x(age.mean), y1: 8, y2: base }),
    shape("line", { class: "axis", x1: 8, x2: width - 8, y1: base, y2: base }));
  for (let year = 0; year <= last; year += 20) {
    const anchor = year === 0 ? "start" : "middle";
    plot.append(shape("text", { x: x(year), y: base + 16, "text-anchor": anchor }, String(year)));
  }
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

function heatMap(face, number) {
  const maps = face.heat_maps ?? {};
  if (!Object.keys(maps).length) {
    return element("p", { className: "fine" },
      "Grad-CAM finds no place in this face that speaks for the answers.");
  }
  const heat = element("img", { alt: "" });
  const select = element("select", {}, ...Object.entries(TASKS).map(([task, label]) =>
    element("option", { value: task, disabled: !maps[task] },
      maps[task] ? label : `${label} (no evidence found)`)));
  const slider = element("input", { type: "range", min: "0", max: "100", step: "5" });
  const update = () => {
    heat.src = maps[select.value];
    heat.style.opacity = slider.value / 100;
    slider.setAttribute("aria-valuetext", `${slider.value} percent`);
    Object.assign(heatChoice, { task: select.value, strength: slider.value / 100 });
  };
  select.value = maps[heatChoice.task] ? heatChoice.task : Object.keys(maps)[0];
  slider.value = Math.round(heatChoice.strength * 100);
  select.addEventListener("change", update);
  slider.addEventListener("input", update);
  update();
  const crop = element("img", { src: face.crop,
    alt: `Face ${number} as the network sees it, with a heat-map over it` });
  return element("div", {}, element("h4", {}, "Where the evidence lies (Grad-CAM)"),
    element("div", { className: "heat" },
      element("div", { className: "heat-stack" }, crop, heat),
      element("div", { className: "heat-controls" },
        element("label", {}, "Evidence for", select),
        element("label", {}, "Strength of the heat-map", slider))));
}

function compare(models, answers, k) {
  if (models.length < 2) return "";
  const rows = models.map((model) => {
    const face = answers.get(model.name)?.faces[k];
    const cells = face ? [
      `${years(face.age.mean)} (${years(face.age.low)}–${years(face.age.high)})`,
      ...[face.gender, face.ethnicity].map((shares) => {
        const [label, share] = best(shares);
        return `${label} ${percent(share)}`;
      })] : ["…", "…", "…"];
    return element("tr", {}, element("th", { scope: "row" }, model.label),
      ...cells.map((text) => element("td", {}, text)));
  });
  const head = ["Network", "Age", "Gender", "Ethnicity"].map((text) =>
    element("th", { scope: "col" }, text));
  return element("div", {}, element("h4", {}, "The networks side by side"),
    element("div", { className: "scroll" }, element("table", { className: "compare" },
      element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows))));
}

function card(face, k, models, answers, label) {
  const number = k + 1;
  const age = element("p", { className: "age-line" }, "about ",
    element("b", {}, years(face.age.mean)), " years, 80 % interval ",
    `${years(face.age.low)} to ${years(face.age.high)}`);
  const node = element("article", { className: "face", id: `face-${number}`, tabIndex: -1 },
    element("div", { className: "face-head" }, element("h3", { id: `face-${number}-title` },
      `Face ${number}`), element("p", { className: "fine" }, `read by ${label}`)),
    age, agePlot(face.age),
    element("div", { className: "split" }, bars("Gender", face.gender),
      bars("Ethnicity", face.ethnicity)),
    heatMap(face, number), compare(models, answers, k));
  node.setAttribute("aria-labelledby", `face-${number}-title`);
  return node;
}

export function showFaces(holder, answer, models, answers) {
  if (!answer.faces.length) return;
  const label = models.find((model) => model.name === answer.model)?.label ?? answer.model;
  holder.replaceChildren(...answer.faces.map((face, k) => card(face, k, models, answers, label)));
}
