// From a photograph to the page: takes it in, asks the networks, shows what came back.

import { camera } from "./camera.js";
import { blank, draw, showComparison, showFaces, showMarks } from "./view.js";

const $ = (id) => document.getElementById(id);
const models = [...$("model").options].map((option) => ({ name: option.value, label: option.text }));
let reading;  // how a picture is decoded, and a network asked
const state = { picture: null, whole: false, answers: new Map(), turn: 0 };

function say(text, seen = true) {
  $("status").textContent = text;
  $("status").classList.toggle("hidden", !seen);  // still read aloud
}

function fail(text) {
  say("");
  $("error").textContent = text;
  // What had the focus may be hidden now: go on from the photograph.
  if (document.activeElement === document.body) $("photo").focus({ preventScroll: true });
}

function title(answer) {
  const count = answer.faces.length;
  if (state.whole) return "The whole picture as one face";
  if (count === 0) return "No face found";
  const more = answer.faces_found > count ? ` (the largest of ${answer.faces_found})` : "";
  return count === 1 ? "1 face found" : `${count} faces found${more}`;
}

function render() {
  const chosen = state.answers.get($("model").value);
  $("results-title").textContent = title(chosen);
  $("whole-offer").hidden = chosen.faces.length > 0;
  showMarks($("picture"), chosen, state.whole);
  showFaces($("faces"), chosen, models, state.answers);
}

function ask(model, turn, bitmap) {
  const { picture, whole } = state;
  return reading.ask({ model, picture, bitmap, whole, say, stale: () => turn !== state.turn });
}

// The first network's answer fills the page; the others join it one by one.
async function read() {
  const turn = ++state.turn;
  state.answers = new Map();
  $("error").textContent = "";
  $("results").hidden = true;
  say("Reading the picture …");
  try {
    const bitmap = await reading.decode(state.picture);
    const answer = await ask(models[0].name, turn, bitmap);
    if (turn !== state.turn) return;  // another photograph came in meanwhile
    if (bitmap) draw($("canvas"), bitmap); else blank($("canvas"), answer);
    state.answers.set(models[0].name, answer);
    reveal();
    if (answer.faces.length) await askOthers(turn);
    if (turn === state.turn) say(`${$("results-title").textContent}.`, false);
  } catch (error) {
    if (turn === state.turn) fail(error.message);
  }
}

async function askOthers(turn) {
  for (const model of models.slice(1)) {
    const answer = await ask(model.name, turn).catch((error) => ({ failed: error.message }));
    if (turn !== state.turn) return;
    state.answers.set(model.name, answer);
    if (!answer.failed) {
      [...$("model").options].find((option) => option.value === model.name).disabled = false;
      $("model-choice").hidden = false;
    }
    // Only the comparison is drawn again: whoever is at a slider stays there.
    showComparison($("faces"), models, state.answers);
  }
}

function reveal() {
  $("model").value = models[0].name;
  for (const option of $("model").options) option.disabled = option.value !== models[0].name;
  $("model-choice").hidden = true;
  render();
  $("results").hidden = false;
  $("results").scrollIntoView({ block: "start" });
  $("results-title").focus({ preventScroll: true });
}

function take(file) {
  if (!file) return;
  const most = Number(document.body.dataset.maxBytes);
  state.turn += 1;
  if (file.size === 0) return fail("The file is empty.");
  if (file.size > most) return fail(`The file is larger than ${most / 1e6} MB.`);
  state.picture = file;
  state.whole = false;
  read();
}

function listen() {
  const drop = $("drop");
  drop.addEventListener("submit", (event) => event.preventDefault());
  $("file").addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = "";  // the same file may be chosen again
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const file = event.dataTransfer.files[0];
    if (file) take(file); else fail("No picture was dropped; drop the file of one.");
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file) take(file); else fail("There is no picture in the clipboard.");
  });
  $("whole").addEventListener("click", () => { state.whole = true; read(); });
  $("model").addEventListener("change", render);
  camera($, take, fail);
}

// `decode` makes a bitmap of a file, or null if only the networks can read it; `ask` promises a
// network's answer. Both throw errors in one sentence.
export function start({ ask, decode }) {
  reading = { ask, decode };
  listen();
  return { $, say, fail, said: () => $("status").textContent };
}
