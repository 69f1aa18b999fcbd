// Finds and reads faces, in a worker of the page: nothing here asks anything of any server.

import * as ort from "./ort.js";
import { detect } from "./detector.js";
import { bilinear, picture, resample, resize, warp } from "./pixels.js";

const ready = load();

async function file(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} is missing (${answer.status})`);
  const content = new Uint8Array(await answer.arrayBuffer());
  if (content[0] !== 0x1f || content[1] !== 0x8b) return content;  // unpacked on the way
  const unpacked = new Blob([content]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

async function load() {
  const names = ["network", "pnet", "rnet", "onet"];
  const [rules, wasm, ...networks] = await Promise.all(
    ["rules.json", "ort.wasm.gz", ...names.map((name) => `${name}.onnx`)].map(file));
  ort.env.wasm.numThreads = 1;  // more need headers that not every host can send
  ort.env.wasm.wasmBinary = wasm;
  const sessions = {};
  for (const [k, name] of names.entries()) {
    sessions[name] = await ort.InferenceSession.create(networks[k]);
  }
  return { rules: JSON.parse(new TextDecoder().decode(rules)), sessions };
}

const runner = (sessions) => async (name, numbers, shape) => {
  const session = sessions[name], tensor = new ort.Tensor("float32", numbers, shape);
  const said = await session.run({ [session.inputNames[0]]: tensor });
  return session.outputNames.map((output) => said[output]);
};

// From pixels to a crop of side 1, z -> turn * z + shift, as `_placement` in utils/faces.py.
function placement({ box: [x, y, width, height], landmarks }, { template, margin, drop }) {
  const root = Math.sqrt(width * height), scale = 1 / (margin * root);
  const centre = [x + width / 2, y + height / 2 + drop * root];
  const byBox = { turn: [scale, 0], shift: centre.map((place) => 0.5 - scale * place) };
  const [from, to] = [landmarks, template].map(middle);
  let real = 0, imaginary = 0, spread = 0;
  landmarks.forEach(([a, b], k) => {
    const [p, q, u, v] = [a - from[0], b - from[1], template[k][0] - to[0], template[k][1] - to[1]];
    real += p * u + q * v;
    imaginary += p * v - q * u;
    spread += p * p + q * q;
  });
  const turn = [real / Math.max(spread, 1e-9), imaginary / Math.max(spread, 1e-9)];
  const change = Math.hypot(...turn) / scale;
  if (!(change > 0.5 && change < 2)) return byBox;  // landmarks that contradict the box
  return { turn, shift: [to[0] - turn[0] * from[0] + turn[1] * from[1],
    to[1] - turn[0] * from[1] - turn[1] * from[0]] };
}

const middle = (points) => [0, 1].map((axis) =>
  points.reduce((sum, point) => sum + point[axis], 0) / points.length);

function crop(image, face, rules) {
  const { side, TRAINING_SIDE } = rules;
  if (face) {
    const { turn, shift } = placement(face, rules);
    const chip = warp(image, turn, shift, TRAINING_SIDE);
    return side === TRAINING_SIDE ? chip : resize(chip, side, side);
  }
  const square = Math.min(image.width, image.height);  // the largest in the middle
  const taps = (length) => bilinear(length, side, (length - square) / 2, square);
  return resample(image, taps(image.width), taps(image.height));
}

// Outputs by name for crops, averaged over crop and mirror image; heat-maps of the crop alone.
async function outputs(session, crops, side) {
  const size = side * side * 3, count = crops.length;
  const numbers = new Float32Array(2 * count * size);
  crops.forEach(({ data }, k) => {
    numbers.set(data, k * size);
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const place = (y * side + side - 1 - x) * 3;
        numbers.set(data.subarray(place, place + 3), (count + k) * size + (y * side + x) * 3);
      }
    }
  });
  const input = new ort.Tensor("float32", numbers, [2 * count, side, side, 3]);
  const said = await session.run({ [session.inputNames[0]]: input });
  return crops.map((_, k) => Object.fromEntries(Object.entries(said).map(([name, { data }]) => {
    const length = data.length / (2 * count), own = data.subarray(k * length, (k + 1) * length);
    if (name.startsWith("heat_")) return [name, own];
    const other = data.subarray((count + k) * length, (count + k + 1) * length);
    return [name, own.map((value, i) => (value + other[i]) / 2)];
  })));
}

// Age below which a share of a distribution over years lies, as `age_quantile` in utils.
function quantile(distribution, share) {
  let before = 0;
  for (const [year, p] of distribution.entries()) {
    if (before + p >= share - 1e-9 || year === distribution.length - 1) {
      const inside = Math.min(1, Math.max(0, (share - before) / Math.max(p, 1e-12)));
      return Math.max(0, year - 0.5 + inside);
    }
    before += p;
  }
}

// An age interval, as `sized_interval` in utils/evaluation/columns.py.
function sized(mean, [low, high], sizes) {
  if (!sizes) return [low, high];
  const range = sizes.edges.filter((edge) => edge <= mean).length;
  const half = (Math.max(high - low, 1) / 2) * sizes.factors[range];
  return [Math.max(0, mean - half), mean + half];
}

function labels(said, { classes, age_interval: sizes }) {
  const total = said.age.reduce((sum, p) => sum + p, 0);
  const distribution = [...said.age].map((p) => p / total);
  const mean = distribution.reduce((sum, p, year) => sum + p * year, 0);
  const ends = [0.1, 0.9].map((share) => quantile(distribution, share));
  const [low, high] = sized(mean, ends, sizes);
  const answer = { age: { mean, low, high, distribution } };
  for (const [task, names] of Object.entries(classes)) {
    answer[task] = Object.fromEntries(names.map((name, k) => [name, said[task][k]]));
  }
  return answer;
}

// Colours whose opacity is the attention, 0..1, linear between the cells; null if there is none.
function heatMap(cells, side, colours) {
  const count = Math.sqrt(cells.length), step = (count - 1) / (side - 1);
  const heat = new Float32Array(side * side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const top = Math.min(count - 2, Math.floor(y * step)), down = y * step - top;
      const left = Math.min(count - 2, Math.floor(x * step)), right = x * step - left;
      const row = (k) => cells[k * count + left] * (1 - right) + cells[k * count + left + 1] * right;
      heat[y * side + x] = row(top) * (1 - down) + row(top + 1) * down;
    }
  }
  const low = heat.reduce((a, b) => Math.min(a, b)), spread = heat.reduce((a, b) => Math.max(a, b)) - low;
  if (!(spread > Math.max(1e-6 * low, 1e-30))) return null;
  const data = new Uint8ClampedArray(side * side * 4);
  heat.forEach((value, k) => {
    const share = (value - low) / spread;
    data.set([...colours[Math.min(255, Math.floor(share * 256))], share * 255], k * 4);
  });
  return { data, width: side, height: side };
}

function opaque({ data, width, height }) {
  const pixels = new Uint8ClampedArray(width * height * 4).fill(255);
  for (let k = 0; k < width * height; k++) pixels.set(data.subarray(k * 3, k * 3 + 3), k * 4);
  return { data: pixels, width, height };
}

async function read({ image, whole, details }) {
  const { rules, sessions } = await ready;
  const colours = picture(Uint8ClampedArray, image.width, image.height);
  for (let k = 0; k < image.width * image.height; k++) {
    colours.data.set(image.data.subarray(k * 4, k * 4 + 3), k * 3);
  }
  const found = whole ? [{ box: [0, 0, image.width, image.height], confidence: 1 }]
    : await detect(runner(sessions), colours, rules);
  const kept = found.slice(0, rules.MAX_FACES);
  const crops = kept.map((face) => crop(colours, whole ? null : face, rules));
  const said = kept.length ? await outputs(sessions.network, crops, rules.side) : [];
  const faces = kept.map(({ box, confidence }, k) => {
    const face = { box, confidence, ...labels(said[k], rules) };
    if (!details) return face;
    const maps = Object.keys({ age: 0, ...rules.classes }).map((task) =>
      [task, heatMap(said[k][`heat_${task}`], rules.side, rules.colours)]);
    return { ...face, crop: opaque(crops[k]),
      heat_maps: Object.fromEntries(maps.filter(([, map]) => map)) };
  });
  return { faces_found: found.length, faces };
}

ready.then(() => postMessage({ ready: true }), (error) => postMessage({ failed: error.message }));
let last = Promise.resolve();  // one after the other, as memory allows

onmessage = ({ data: { id, ...asked } }) => {
  last = last.then(() => read(asked)).then((answer) => postMessage({ id, answer }),
    (error) => postMessage({ id, error: error.message }));
};
