"use strict";
// Volumes arrive as 8-bit sprites over the network's HU window; everything shown is computed from them here.
(() => {
  const root = document.documentElement;
  window.addEventListener("error", (event) => { root.dataset.error = String(event.message); });
  window.addEventListener("unhandledrejection", (event) => { root.dataset.error = String(event.reason); });
  const HIDDEN = [33, 43, 64];
  const cases = JSON.parse(document.getElementById("cases").textContent);

  const decode = async (url, [depth, height, width]) => {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const columns = Math.ceil(Math.sqrt(depth));
    const volume = new Uint8Array(depth * height * width);
    for (let k = 0; k < depth; k++) {
      const tile = context.getImageData((k % columns) * width, Math.floor(k / columns) * height, width, height).data;
      for (let i = 0; i < height * width; i++) volume[k * height * width + i] = tile[4 * i];
    }
    return volume;
  };

  // For each view: slices, rows, columns, and the voxel (d, h, w) of a shown pixel. Superior is up, the patient's right left.
  const layout = (view, [depth, height, width]) => ({
    axial: { slices: depth, rows: height, columns: width, at: (s, r, c) => [s, r, c] },
    coronal: { slices: height, rows: depth, columns: width, at: (s, r, c) => [depth - 1 - r, s, c] },
    sagittal: { slices: width, rows: depth, columns: height, at: (s, r, c) => [depth - 1 - r, c, s] },
  })[view];

  const clamp = (x) => (x < 0 ? 0 : x > 1 ? 1 : x);
  const heat = (x) => [clamp(2.2 * x) * 255, clamp(2.2 * x - 0.6) * 255, clamp(3 * x - 2) * 255];

  const setUp = async (article, data) => {
    const [truth, rebuilt, mask] = await Promise.all([data.truth, data.rebuilt, data.mask].map((url) => decode(url, data.shape)));
    const held = data.held ? await decode(data.held, data.shape) : null;
    const [low, high] = data.window;
    const hu = (level) => low + (level / 255) * (high - low);
    const windowSelect = article.querySelector("select.window");
    const errorSelect = article.querySelector("select.error");
    const readout = article.querySelector(".readout");
    const redraws = [];

    for (const box of article.querySelectorAll(".view")) {
      const view = box.dataset.view;
      const plan = layout(view, data.shape);
      const slider = box.querySelector("input");
      const label = box.querySelector(".slider output");
      const canvases = [...box.querySelectorAll("canvas")];
      const [pixelHeight, pixelWidth] = data.pixel[view];
      const step = data.spacing[{ axial: 0, coronal: 1, sagittal: 2 }[view]];
      slider.max = plan.slices - 1;
      slider.value = data.start[view];
      const offset = ([d, h, w]) => (d * data.shape[1] + h) * data.shape[2] + w;

      const draw = () => {
        const slice = Number(slider.value);
        const [black, white] = windowSelect.value.split(",").map(Number);
        const most = Number(errorSelect.value);
        const images = canvases.map(() => new ImageData(plan.columns, plan.rows));
        const grey = new Uint8ClampedArray(256);
        for (let level = 0; level < 256; level++) grey[level] = (255 * (hu(level) - black)) / (white - black);
        for (let r = 0; r < plan.rows; r++) {
          for (let c = 0; c < plan.columns; c++) {
            const at = offset(plan.at(slice, r, c));
            const pixel = 4 * (r * plan.columns + c);
            const original = grey[truth[at]];
            const output = grey[rebuilt[at]];
            const hidden = mask[at] > 127;
            const error = heat(clamp(Math.abs(hu(rebuilt[at]) - hu(truth[at])) / most));
            for (let channel = 0; channel < 3; channel++) {
              images[0].data[pixel + channel] = original;
              images[1].data[pixel + channel] = hidden ? HIDDEN[channel] : original;
              images[2].data[pixel + channel] = output;
              images[3].data[pixel + channel] = error[channel];
            }
            for (const image of images) image.data[pixel + 3] = 255;
          }
        }
        if (held) outline(images, slice);
        canvases.forEach((canvas, panel) => {
          canvas.width = plan.columns;
          canvas.height = plan.rows;
          canvas.style.aspectRatio = `${plan.columns * pixelWidth} / ${plan.rows * pixelHeight}`;
          canvas.getContext("2d").putImageData(images[panel], 0, 0);
        });
        label.textContent = `${slice + 1} of ${plan.slices}, ${(slice * step).toFixed(0)} mm`;
      };

      const outline = (images, slice) => {
        const inside = (r, c) =>
          r >= 0 && c >= 0 && r < plan.rows && c < plan.columns && held[offset(plan.at(slice, r, c))] > 127;
        for (let r = 0; r < plan.rows; r++) {
          for (let c = 0; c < plan.columns; c++) {
            const edge = inside(r, c) && !(inside(r - 1, c) && inside(r + 1, c) && inside(r, c - 1) && inside(r, c + 1));
            if (!edge || ((r + c) >> 1) % 2) continue;
            for (const image of images) image.data.set([255, 214, 10], 4 * (r * plan.columns + c));
          }
        }
      };

      const move = (steps) => {
        slider.value = Number(slider.value) + steps;
        draw();
      };
      slider.addEventListener("input", draw);
      for (const canvas of canvases) {
        canvas.tabIndex = 0;
        canvas.addEventListener("wheel", (event) => { event.preventDefault(); move(Math.sign(event.deltaY)); }, { passive: false });
        canvas.addEventListener("keydown", (event) => {
          const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10 }[event.key];
          if (steps) { event.preventDefault(); move(steps); }
        });
        canvas.addEventListener("pointermove", (event) => {
          const area = canvas.getBoundingClientRect();
          const r = Math.min(plan.rows - 1, Math.floor(((event.clientY - area.top) / area.height) * plan.rows));
          const c = Math.min(plan.columns - 1, Math.floor(((event.clientX - area.left) / area.width) * plan.columns));
          const voxel = plan.at(Number(slider.value), Math.max(0, r), Math.max(0, c));
          const at = offset(voxel);
          readout.textContent = `voxel ${voxel.map((v) => v * data.stride).join(", ")}: scan ${hu(truth[at]).toFixed(0)} HU, `
            + `rebuilt ${hu(rebuilt[at]).toFixed(0)} HU, ${mask[at] > 127 ? "masked" : "visible"}`;
        });
      }
      redraws.push(draw);
    }
    const all = () => redraws.forEach((draw) => draw());
    windowSelect.addEventListener("change", all);
    errorSelect.addEventListener("change", all);
    all();
  };

  Promise.all([...document.querySelectorAll(".case")].map((article, index) => setUp(article, cases[index])))
    .then(() => { root.dataset.ready = "1"; });
})();
