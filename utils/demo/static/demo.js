// From a photograph to the page: takes it in, asks the server, shows what came back.

import { camera } from "./camera.js";
import { drawPicture, showFaces, showMarks } from "./view.js";

const $ = (id) => document.getElementById(id);
const models = [...$("model").options].map((option) => ({ name: option.value, label: option.text }));
const state = { picture: null, whole: false, answers: new Map(), turn: 0 };

function say(text, seen = true) {
  $("status").textContent = text;
  $("status").classList.toggle("hidden", !seen);  // still read aloud
}

function fail(text) {
  say("");
  $("error").textContent = text;
}

async function explainFailure(response) {
  if (response.status === 413) return "The file is too large for this server.";
  let message = "";
  try { message = (await response.json()).error.message; } catch { /* not our server's words */ }
  return message || `The server could not answer (${response.status}).`;
}

async function ask(model, turn, tries = 4) {
  const form = new FormData();
  form.append("image", state.picture, "picture");
  const query = new URLSearchParams({ model, details: "true", whole: String(state.whole) });
  let response;
  try {
    response = await fetch(`api/predict?${query}`, { method: "POST", body: form });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (response.status === 429 && tries > 0 && turn === state.turn) {
    const seconds = Math.min(10, Number(response.headers.get("Retry-After")) || 1);
    say(`The server is busy; trying again in ${seconds} s.`);
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    return ask(model, turn, tries - 1);
  }
  if (!response.ok) throw new Error(await explainFailure(response));
  return response.json();
}

function title(answer) {
  const count = answer.faces.length;
  if (state.whole) return "The whole picture as one face";
  if (count === 0) return "No face found";
  const more = answer.faces_found > count ? ` (the largest of ${answer.faces_found})` : "";
  return count === 1 ? "1 face found" : `${count} faces found${more}`;
}

function render() {
  const chosen = state.answers.get($("model").value) ?? [...state.answers.values()][0];
  $("results-title").textContent = title(chosen);
  $("whole-offer").hidden = chosen.faces.length > 0;
  $("model-choice").hidden = state.answers.size < 2;
  showMarks($("picture"), chosen, state.whole);
  showFaces($("faces"), chosen, models, state.answers);
}

async function read() {
  const turn = ++state.turn;
  state.answers = new Map();
  $("error").textContent = "";
  $("results").hidden = true;
  say("Reading the picture …");
  try {
    await drawPicture($("canvas"), state.picture).catch(() => null);
    for (const [k, model] of models.entries()) {
      const answer = await ask(model.name, turn);
      if (turn !== state.turn) return;  // another photograph came in meanwhile
      state.answers.set(model.name, answer);
      if (k === 0) $("model").value = model.name;
      render();
      if (k === 0) reveal(answer);
      if (answer.faces.length === 0) break;
    }
    say(`${$("results-title").textContent}.`, false);
  } catch (error) {
    if (turn === state.turn) fail(error.message);
  }
}

function reveal(answer) {
  $("results").hidden = false;
  if (answer.faces.length === 0) {
    const hint = document.createElement("p");
    hint.textContent = "If the picture shows one face and little else, it can be read as it is.";
    $("faces").replaceChildren(hint);
  }
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
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file) take(file);
  });
  $("whole").addEventListener("click", () => { state.whole = true; read(); });
  $("model").addEventListener("change", render);
  camera($, take, fail);
}

listen();
