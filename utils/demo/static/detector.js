// Faces and their five landmarks by MTCNN (Zhang et al. 2016), step by step as utils/faces.py.

import { area, picture, resample, resize } from "./pixels.js";

const GOOD = { proposal: 0.6, refined: 0.7, final: 0.8 };  // the mtcnn package's thresholds
const UNION = (a, b, shared) => size(a) + size(b) - shared;
const SMALLER = (a, b) => Math.min(size(a), size(b));

// A box is {x1, y1, x2, y2, sure, marks}.
const size = (box) => (box.x2 - box.x1) * (box.y2 - box.y1);

// Keeps a box if none that is surer covers more than `most` of it, kept or not.
function suppress(boxes, most, whole = UNION) {
  boxes.sort((a, b) => b.sure - a.sure);
  return boxes.filter((box, k) => !boxes.slice(0, k).some((surer) => {
    const width = Math.min(box.x2, surer.x2) - Math.max(box.x1, surer.x1);
    const height = Math.min(box.y2, surer.y2) - Math.max(box.y1, surer.y1);
    const shared = Math.max(0, width) * Math.max(0, height);
    return shared / whole(box, surer, shared) > most;
  }));
}

function squared(box) {
  const side = Math.max(box.x2 - box.x1, box.y2 - box.y1);
  const x1 = (box.x1 + box.x2 - side) / 2, y1 = (box.y1 + box.y2 - side) / 2;
  return { ...box, x1, y1, x2: x1 + side, y2: y1 + side };
}

function moved(box, offsets) {
  const width = box.x2 - box.x1 + 1, height = box.y2 - box.y1 + 1;
  return { ...box, x1: box.x1 + offsets[0] * width, y1: box.y1 + offsets[1] * height,
    x2: box.x2 + offsets[2] * width, y2: box.y2 + offsets[3] * height };
}

async function propose(run, image, { MIN_FACE, PYRAMID, PROPOSALS }) {
  const smallest = 12.5 / Math.min(image.width, image.height);
  const largest = Math.max(smallest, 12 / MIN_FACE);
  const steps = Math.floor(Math.log(smallest / largest) / Math.log(PYRAMID));
  const found = [];
  for (let k = 0; k <= steps; k++) {
    const scale = largest * PYRAMID ** k;
    const width = Math.floor(image.width * scale), height = Math.floor(image.height * scale);
    const small = resample(image, area(image.width, width), area(image.height, height));
    const [offsets, scores] = await run("pnet", small.data, [1, height, width, 3]);
    const columns = offsets.dims[2], boxes = [];
    for (let cell = 0; cell < scores.data.length / 2; cell++) {
      const sure = scores.data[cell * 2 + 1];
      if (sure <= GOOD.proposal) continue;
      const x = (cell % columns) * 2, y = Math.floor(cell / columns) * 2;
      const [x1, y1, x2, y2] = offsets.data.subarray(cell * 4, cell * 4 + 4).map((o) => o * 11);
      boxes.push({ x1: (x + 1 + x1) / scale, y1: (y + 1 + y1) / scale,
        x2: (x + 12 + x2) / scale, y2: (y + 12 + y2) / scale, sure });
    }
    boxes.sort((a, b) => b.sure - a.sure);
    found.push(...suppress(boxes.slice(0, PROPOSALS), 0.5));
  }
  found.sort((a, b) => b.sure - a.sure);
  return suppress(found.slice(0, PROPOSALS), 0.7).map(squared);
}

// Squares of `side` pixels out of a picture, linear between pixels, 0 outside of it.
function patches(image, boxes, side) {
  const { data, width, height } = image;
  const all = new Float32Array(boxes.length * side * side * 3);
  let place = 0;
  for (const box of boxes) {
    const stretchX = (width - 1) / width, stretchY = (height - 1) / height;  // as TensorFlow
    const stepX = ((box.x2 - box.x1) * stretchX) / (side - 1);
    const stepY = ((box.y2 - box.y1) * stretchY) / (side - 1);
    for (let j = 0; j < side; j++) {
      const y = box.y1 * stretchY + j * stepY;
      for (let i = 0; i < side; i++, place += 3) {
        const x = box.x1 * stretchX + i * stepX;
        if (x < 0 || y < 0 || x > width - 1 || y > height - 1) continue;
        const left = Math.floor(x), top = Math.floor(y), dx = x - left, dy = y - top;
        const a = (top * width + left) * 3, b = a + (Math.ceil(x) - left) * 3;
        const down = (Math.ceil(y) - top) * width * 3;
        for (let colour = 0; colour < 3; colour++) {
          const upper = data[a + colour] * (1 - dx) + data[b + colour] * dx;
          const lower = data[a + down + colour] * (1 - dx) + data[b + down + colour] * dx;
          all[place + colour] = upper * (1 - dy) + lower * dy;
        }
      }
    }
  }
  return all;
}

async function refine(run, image, boxes) {
  const [offsets, scores] = await run("rnet", patches(image, boxes, 24), [boxes.length, 24, 24, 3]);
  const better = boxes.map((box, k) => ({ ...moved(box, offsets.data.subarray(k * 4)),
    sure: scores.data[k * 2 + 1] }));
  return suppress(better.filter((box) => box.sure > GOOD.refined), 0.7).map(squared);
}

async function finish(run, image, boxes) {
  const said = await run("onet", patches(image, boxes, 48), [boxes.length, 48, 48, 3]);
  const [offsets, places, scores] = said.map((tensor) => tensor.data);
  const better = boxes.map((box, k) => {
    const width = box.x2 - box.x1 + 1, height = box.y2 - box.y1 + 1;
    const marks = Array.from({ length: 5 }, (_, i) => [
      width * places[k * 10 + i] + box.x1 - 1, height * places[k * 10 + 5 + i] + box.y1 - 1]);
    return { ...moved(box, offsets.subarray(k * 4)), sure: scores[k * 2 + 1], marks };
  });
  return suppress(better.filter((box) => box.sure > GOOD.final), 0.7, SMALLER);
}

// Faces {box: [x, y, width, height], confidence, landmarks} in pixels of `image`, largest first.
// `run` takes name, numbers and shape, and promises the outputs of a network.
export async function detect(run, image, rules) {
  if (Math.min(image.width, image.height) < 16) return [];
  const shrink = Math.max(image.width, image.height) / rules.DETECT_SIDE;
  const side = (length) => Math.max(13, Math.round(length / shrink));
  const small = shrink > 1 ? resize(image, side(image.width), side(image.height)) : image;
  const pixels = picture(Float32Array, small.width, small.height);
  small.data.forEach((value, k) => { pixels.data[k] = (value - 127.5) / 128; });
  let found = await propose(run, pixels, rules);
  if (found.length) found = await refine(run, pixels, found);
  if (found.length) found = await finish(run, pixels, found);
  const across = image.width / small.width, down = image.height / small.height;
  return found.filter((box) => box.sure >= rules.CONFIDENCE).map((box) => ({
    box: [box.x1 * across, box.y1 * down, (box.x2 - box.x1) * across, (box.y2 - box.y1) * down],
    confidence: Math.min(1, box.sure),
    landmarks: box.marks.map(([x, y]) => [x * across, y * down]),
  })).sort((a, b) => b.box[2] * b.box[3] - a.box[2] * a.box[3]);
}
