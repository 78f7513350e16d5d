"use strict";
// Slices arrive as strips of greys over the network's HU window; everything shown is computed from them here.
(() => {
  const root = document.documentElement;
  window.addEventListener("error", (event) => { root.dataset.error = String(event.message); });
  window.addEventListener("unhandledrejection", (event) => { root.dataset.error = String(event.reason); });
  const scans = JSON.parse(document.getElementById("cases").textContent);
  if (!scans.length) { root.dataset.ready = "1"; return; }
  const HIDDEN = [33, 43, 64];
  const box = document.querySelector(".viewer");
  const control = Object.fromEntries(["scan", "model", "view", "window", "most", "slice"].map((id) => [id, document.getElementById(id)]));
  const canvases = [...box.querySelectorAll("canvas")];
  const kept = new Map();

  const decode = async (url) => {
    if (kept.has(url)) return kept.get(url);
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const strip = context.getImageData(0, 0, image.width, image.height);
    kept.set(url, strip);
    return strip;
  };

  const clamp = (x) => (x < 0 ? 0 : x > 1 ? 1 : x);
  const heat = (x) => [clamp(2.2 * x) * 255, clamp(2.2 * x - 0.6) * 255, clamp(3 * x - 2) * 255];
  let latest = 0;

  const draw = async () => {
    const turn = ++latest;
    const scan = scans[Number(control.scan.value)];
    const view = scan.views[control.view.value];
    const model = view.models[control.model.value];
    control.slice.max = view.slices.length - 1;
    const slice = Math.min(Number(control.slice.value), view.slices.length - 1);
    const [truth, rebuilt, mask] = await Promise.all([view.truth, model.image, view.masks[model.mask]].map(decode));
    if (turn !== latest) return; // a newer request has started
    const [low, high] = scan.window;
    const hu = (level) => low + (level / 252) * (high - low);
    const [black, white] = control.window.value.split(",").map(Number);
    const grey = (level) => clamp((hu(level) - black) / (white - black)) * 255;
    const images = canvases.map(() => new ImageData(view.columns, view.rows));
    for (let r = 0; r < view.rows; r++) {
      for (let c = 0; c < view.columns; c++) {
        const from = 4 * (r * truth.width + slice * view.columns + c);
        const to = 4 * (r * view.columns + c);
        const hidden = mask.data[from] > 127;
        const error = heat(clamp(Math.abs(hu(rebuilt.data[from]) - hu(truth.data[from])) / Number(control.most.value)));
        for (let channel = 0; channel < 3; channel++) {
          images[0].data[to + channel] = grey(truth.data[from]);
          images[1].data[to + channel] = hidden ? HIDDEN[channel] : grey(truth.data[from]);
          images[2].data[to + channel] = grey(rebuilt.data[from]);
          images[3].data[to + channel] = error[channel];
        }
        for (const image of images) image.data[to + 3] = 255;
      }
    }
    canvases.forEach((canvas, panel) => {
      canvas.width = view.columns;
      canvas.height = view.rows;
      canvas.style.aspectRatio = `${view.columns * view.pixel[1]} / ${view.rows * view.pixel[0]}`;
      canvas.getContext("2d").putImageData(images[panel], 0, 0);
    });
    for (const [place, side] of ["left", "right", "top", "bottom"].entries()) {
      box.querySelectorAll(`.edge.${side}`).forEach((letter) => { letter.textContent = view.edges[place]; });
    }
    box.querySelector("output").textContent = view.labels[slice];
    root.dataset.ready = "1";
  };

  const middle = () => { control.slice.value = Math.floor(scans[Number(control.scan.value)].views[control.view.value].slices.length / 2); };
  for (const name of ["scan", "view"]) control[name].addEventListener("change", () => { middle(); draw(); });
  for (const name of ["model", "window", "most"]) control[name].addEventListener("change", draw);
  control.slice.addEventListener("input", draw);
  canvases.forEach((canvas) => {
    canvas.tabIndex = 0;
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
      if (steps) { event.preventDefault(); control.slice.value = Number(control.slice.value) + steps; draw(); }
    });
  });
  control.slice.max = 99;
  middle();
  draw();
})();
