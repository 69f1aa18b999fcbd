// While the camera runs: boxes over its picture, with the age that the network reads.

export function live($, look) {
  const view = $("camera-view"), marks = $("live-marks"), on = $("live");
  const canvas = document.createElement("canvas");
  let running = false;

  function mark({ box: [x, y, width, height], age }) {
    const node = document.createElement("div"), text = document.createElement("span");
    node.className = "mark";
    text.textContent = `${Math.round(age.mean)} years`;
    node.append(text);
    const places = { left: x / canvas.width, top: y / canvas.height,
      width: width / canvas.width, height: height / canvas.height };
    for (const [name, share] of Object.entries(places)) node.style[name] = `${share * 100}%`;
    return node;
  }

  async function follow() {
    if (running) return;
    running = true;
    while (on.checked && view.srcObject) {
      if (view.videoWidth) {
        canvas.width = 640;
        canvas.height = Math.round((640 * view.videoHeight) / view.videoWidth);
        const pen = canvas.getContext("2d", { willReadFrequently: true });
        pen.drawImage(view, 0, 0, canvas.width, canvas.height);
        const image = pen.getImageData(0, 0, canvas.width, canvas.height);
        const answer = await look(image).catch(() => ({ faces: [] }));
        marks.replaceChildren(...answer.faces.map(mark));
      }
      await new Promise(requestAnimationFrame);
    }
    marks.replaceChildren();
    running = false;
  }

  on.addEventListener("change", follow);
  view.addEventListener("playing", follow);
}
