// The page without a server: photographs are decoded and read here, and go nowhere.

import { live } from "./live.js";
import { start } from "./page.js";

const HEIC = /^ftyp(hei[cx]|hevc|mif1|msf1)/;
const LOADING = "Loading the networks …";
const limits = document.body.dataset;

// A worker of its own code, so that the page's content security policy holds there too.
function worker() {
  const code = `import ${JSON.stringify(new URL("reader.js", import.meta.url).href)};`;
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  return new Worker(address, { type: "module" });
}

const reader = worker(), waiting = new Map();
let count = 0;

function look(image, whole = false, details = false) {
  const id = ++count;
  const { data, width, height } = image;
  reader.postMessage({ id, image: { data, width, height }, whole, details }, [data.buffer]);
  return new Promise((done, failed) => waiting.set(id, { done, failed }));
}

async function sizeOf(file) {
  const probe = new Image(), address = URL.createObjectURL(file);
  try {
    await new Promise((done, failed) => {
      Object.assign(probe, { onload: done, onerror: failed, src: address });
    });
    return [probe.naturalWidth, probe.naturalHeight];  // by its header: nothing is decoded yet
  } catch {
    const start = new TextDecoder().decode(await file.slice(4, 12).arrayBuffer());
    throw new Error(HEIC.test(start)
      ? "This is a HEIC photograph, which this browser cannot read; save it as JPEG."
      : "This is not a picture that can be read; choose a JPEG, PNG, WebP, GIF or BMP.");
  } finally {
    URL.revokeObjectURL(address);
  }
}

async function decode(file) {
  const [width, height] = await sizeOf(file), most = Number(limits.maxPixels);
  if (width * height > most) {
    throw new Error(`The picture has ${width} x ${height} pixels; at most ${most / 1e6} million are read.`);
  }
  const how = { imageOrientation: "from-image", colorSpaceConversion: "none" };
  return createImageBitmap(file, how).catch(() => {
    throw new Error("The picture is damaged and cannot be decoded.");
  });
}

function pixels(bitmap) {
  const scale = Math.min(1, Number(limits.workingSide) / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "white";  // under transparent parts
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return pen.getImageData(0, 0, canvas.width, canvas.height);
}

function address({ data, width, height }) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  return canvas.toDataURL();
}

// What the server of the other demo answers, from this device.
async function ask({ model, bitmap, whole }) {
  const { width, height } = bitmap, image = pixels(bitmap);
  const scale = [width / image.width, height / image.height];
  const answer = await look(image, whole, true);
  for (const face of answer.faces) {
    face.box = face.box.map((value, k) => Math.round(value * scale[k % 2]));
    face.crop = address(face.crop);
    for (const [task, map] of Object.entries(face.heat_maps)) face.heat_maps[task] = address(map);
  }
  return { model, width, height, ...answer };
}

const page = start({ ask, decode });

reader.onmessage = ({ data }) => {
  if (data.failed) return broken(data.failed);
  if (data.ready) {
    if (page.said() === LOADING) page.say("Ready, also without a network.", false);
    if (navigator.serviceWorker) navigator.serviceWorker.register("service-worker.js");
    return;
  }
  const { done, failed } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error) failed(new Error(data.error)); else done(data.answer);
};
reader.onerror = (event) => broken(event.message ?? "the worker did not start");

function broken(reason) {
  page.fail(typeof WebAssembly === "object" ? `The networks could not be loaded: ${reason}.`
    : "This browser has no WebAssembly, which the networks need; a current one has it.");
}

page.say(LOADING);
live(page.$, look);
