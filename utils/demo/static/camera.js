// The webcam: browsers allow it on localhost and over HTTPS only.

export function camera($, take, fail) {
  const view = $("camera-view");
  let stream = null;
  if (!navigator.mediaDevices?.getUserMedia) return;
  $("camera-open").hidden = false;

  function close() {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    view.srcObject = null;
    $("camera").hidden = true;
    $("camera-open").focus();
  }

  $("camera-open").addEventListener("click", async () => {
    if (stream) return $("camera-shoot").focus();
    try {
      const wanted = { width: { ideal: 1280 }, facingMode: "user" };
      stream = await navigator.mediaDevices.getUserMedia({ video: wanted });
    } catch (error) {
      return fail(error.name === "NotAllowedError"
        ? "The camera was not allowed." : "No camera could be opened.");
    }
    $("error").textContent = "";
    view.srcObject = stream;
    $("camera").hidden = false;
    await view.play();
    $("camera-shoot").focus();
  });

  $("camera-shoot").addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    canvas.width = view.videoWidth;
    canvas.height = view.videoHeight;
    if (!canvas.width) return;  // the first frame is still on its way
    canvas.getContext("2d").drawImage(view, 0, 0);
    close();
    canvas.toBlob((blob) => take(blob), "image/jpeg", 0.92);
  });

  $("camera-close").addEventListener("click", close);
  $("camera").addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
}
