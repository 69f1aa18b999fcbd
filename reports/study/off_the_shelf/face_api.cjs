// Score pictures with npm's @vladmandic/face-api (its age-gender net), offline.
// node face_api.cjs FOLDER NAMES OUT [--detect]
// Run it in the folder that holds node_modules. NAMES lists pictures below FOLDER, one a line;
// OUT is a CSV with a row a picture, see convert.py.
"use strict";
const fs = require("fs");
const path = require("path");
const { createRequire } = require("module");

const packages = createRequire(path.join(process.cwd(), "package.json"));
const jpeg = packages("jpeg-js");
const tf = packages("@tensorflow/tfjs");
const wasm = packages("@tensorflow/tfjs-backend-wasm");
const faceapi = packages("@vladmandic/face-api/dist/face-api.node-wasm.js");
const home = path.dirname(packages.resolve("@vladmandic/face-api/package.json"));

async function prepare(detect) {
  const engine = path.dirname(packages.resolve("@tensorflow/tfjs-backend-wasm/package.json"));
  wasm.setThreadsCount(1);
  wasm.setWasmPaths(path.join(engine, "dist") + path.sep);
  await tf.setBackend("wasm");
  await tf.ready();
  const { ageGenderNet, ssdMobilenetv1, faceLandmark68Net } = faceapi.nets;
  for (const net of detect ? [ageGenderNet, ssdMobilenetv1, faceLandmark68Net] : [ageGenderNet]) {
    await net.loadFromDisk(path.join(home, "model"));
  }
}

function read(file) {
  const { data, width, height } = jpeg.decode(fs.readFileSync(file), { useTArray: true });
  return tf.tidy(() => tf.tensor3d(data, [height, width, 4], "int32").slice([0, 0, 0], [-1, -1, 3]));
}

// The picture itself, or the face that the package's default detector and landmarks cut out of it.
async function faceOf(picture, detect) {
  if (!detect) return [false, picture];
  const face = await faceapi.detectSingleFace(picture).withFaceLandmarks();
  if (!face) return [false, picture];
  const [crop] = await faceapi.extractFaceTensors(picture, [face.alignedRect]);
  return [true, crop];
}

async function score(file, detect) {
  const picture = read(file);
  const [found, face] = await faceOf(picture, detect);
  const { age, gender } = await faceapi.nets.ageGenderNet.forward(face);
  const [years] = await age.data();
  const [male, female] = await gender.data();
  tf.dispose([picture, face, age, gender]);
  return [Number(found), years, female, male].map((value) => Number(value.toPrecision(6)));
}

async function main() {
  const detect = process.argv.includes("--detect");
  const [folder, list, out] = process.argv.slice(2).filter((text) => text !== "--detect");
  if (!out) throw new Error("expected FOLDER NAMES OUT [--detect]");
  await prepare(detect);
  const names = fs.readFileSync(list, "utf8").split("\n").filter(Boolean);
  const rows = ["image,found,pred_age,p_female,p_male"];
  for (const name of names) {
    rows.push([name, ...(await score(path.join(folder, name), detect))].join(","));
    if (rows.length % 200 === 1) console.error(`${rows.length - 1} of ${names.length} pictures`);
  }
  fs.writeFileSync(`${out}.part`, rows.join("\n") + "\n");
  fs.renameSync(`${out}.part`, out);
}

main().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exit(1);
});
