// The page with a server, which is asked about each photograph.

import { start } from "./page.js";
import { decodePicture } from "./view.js";

async function explainFailure(response) {
  let message = "";
  try { message = (await response.json()).error.message; } catch { /* not our server's words */ }
  if (!message && response.status === 413) return "The file is too large for this server.";
  return message || `The server could not answer (${response.status}).`;
}

async function ask(asked, tries = 4) {
  const { model, picture, whole, say, stale } = asked;
  const form = new FormData();
  form.append("image", picture, "picture");
  const query = new URLSearchParams({ model, details: "true", whole: String(whole) });
  let response;
  try {
    response = await fetch(`api/predict?${query}`, { method: "POST", body: form });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (response.status === 429 && tries > 0 && !stale()) {
    const seconds = Math.min(10, Number(response.headers.get("Retry-After")) || 1);
    say(`The server is busy; trying again in ${seconds} s.`);
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    return ask(asked, tries - 1);
  }
  if (!response.ok) throw new Error(await explainFailure(response));
  return response.json();
}

start({ ask, decode: (file) => decodePicture(file).catch(() => null) });
