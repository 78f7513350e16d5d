"use strict";

const { Niivue, NVImage } = window.niivue;
const find = (id) => document.getElementById(id);
const root = document.documentElement;

const WINDOWS = [["body", -1000, 500], ["soft tissue", -160, 240], ["lung", -1000, 200], ["bone", -200, 1000], ["full", -1000, 1000]];
const STEPS = {
  ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1],
};
const PANELS = { original: "original", masked: "masked input", reconstruction: "reconstruction", error: "absolute error" };
const HIDDEN = [33, 43, 64]; // the colour of masked voxels, as in the report
const OPTIONS = {
  backColor: [0, 0, 0, 1], crosshairColor: [0.39, 0.72, 0.91, 0.7], crosshairWidth: 1, isColorbar: false, dragAndDropEnabled: false,
  multiplanarEqualSize: true, sagittalNoseLeft: true, textHeight: 0.05, fontColor: [0.5, 0.83, 1, 1],
};

let panels = []; // { name, nv, readout } of the scan that is shown
let scans = [];
let scan = null; // what scan.json says of it
let request = 0;

function fail(error) {
  root.dataset.error = String(error.message || error);
  find("status").textContent = root.dataset.error;
  find("status").className = "error";
  find("status").hidden = false;
}

function guarded(work) {
  return async (...words) => {
    try {
      await work(...words);
    } catch (error) {
      fail(error);
    }
  };
}

async function get(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
}

async function start() {
  scans = await (await get("scans.json")).json();
  const groups = new Map();
  scans.forEach(({ name, group }, number) => {
    if (!groups.has(group)) {
      const made = document.createElement("optgroup");
      made.label = group;
      groups.set(group, made);
      find("scan").append(made);
    }
    groups.get(group).append(new Option(name, number));
  });
  WINDOWS.forEach(([name, low, high]) => find("window").append(new Option(`${name} [${low}, ${high}]`, `${low},${high}`)));
  listKeys();
  if (!scans.length) throw new Error("there is no scan to show");
  await show(0);
}

// Loads a scan: what it has, then its volumes, each file once; a scan that is chosen meanwhile takes over.
async function show(number) {
  const mine = ++request;
  delete root.dataset.ready;
  delete root.dataset.error;
  find("scan").value = number;
  find("status").className = "";
  find("status").hidden = false;
  find("status").textContent = `loading ${scans[number].name}; a reconstruction takes a while on a CPU`;
  const found = await (await get(`${number}/scan.json`)).json();
  const files = Object.fromEntries(
    await Promise.all(found.volumes.map(async (name) => [name, await (await get(`${number}/${name}.nii`)).arrayBuffer()])),
  );
  if (mine !== request) return;
  scan = found;
  const rebuilt = "reconstruction" in files;
  document.querySelectorAll(".run").forEach((part) => (part.hidden = !rebuilt));
  document.querySelectorAll(".labelled").forEach((part) => (part.hidden = !("labels" in files)));
  find("status").hidden = true;
  await build(rebuilt ? Object.keys(PANELS) : ["original"]);
  for (const panel of panels) await fill(panel, files);
  panels.forEach(({ nv }) => nv.broadcastTo(panels.map((other) => other.nv), { "2d": true, "3d": true }));
  applyLayout();
  applyConvention();
  panels[0].nv.createOnLocationChange();
  await new Promise(requestAnimationFrame);
  root.dataset.ready = number;
}

// One canvas per panel; they are kept while scans have the same panels, as a page may have few WebGL contexts.
async function build(names) {
  if (panels.length === names.length) {
    panels.forEach(({ nv }) => [...nv.volumes].forEach((volume) => nv.removeVolume(volume)));
    return;
  }
  find("panels").replaceChildren();
  find("panels").style.setProperty("--columns", names.length);
  panels = [];
  for (const name of names) {
    const figure = document.createElement("figure");
    figure.innerHTML = '<figcaption><output></output></figcaption><div class="canvas"><canvas></canvas></div>';
    figure.querySelector("figcaption").append(PANELS[name]);
    const canvas = figure.querySelector("canvas");
    canvas.setAttribute("aria-label", PANELS[name]);
    find("panels").append(figure);
    const layout = names.length > 1 ? { multiplanarLayout: 1, multiplanarShowRender: 0 } : { multiplanarLayout: 2, multiplanarShowRender: 1 };
    const nv = new Niivue({ ...OPTIONS, ...layout });
    await nv.attachToCanvas(canvas);
    nv.onLocationChange = readOut;
    panels.push({ name, nv, readout: figure.querySelector("output") });
  }
}

async function fill({ name, nv }, files) {
  const file = name === "masked" ? "original" : name;
  const [low, high] = shownRange(name);
  await add(nv, files[file], file, { colormap: name === "error" ? "inferno" : "gray", cal_min: low, cal_max: high });
  if (name === "masked") await add(nv, files.mask, "mask", {}, { 0: null, 1: HIDDEN });
  if ("labels" in files) await add(nv, files.labels, "labels", { opacity: labelOpacity() }, colours(Object.keys(scan.names)));
  nv.updateGLVolume();
}

// Adds a volume; with colours of its numbers, as labels.
async function add(nv, buffer, name, options, colour) {
  const volume = await NVImage.loadFromUrl({ url: buffer, name: `${name}.nii`, ...options });
  nv.addVolume(volume);
  if (!colour) return;
  const numbers = Object.keys(colour).map(Number);
  const part = (at) => numbers.map((number) => (colour[number] || [0, 0, 0])[at]);
  volume.setColormapLabel({ R: part(0), G: part(1), B: part(2), A: numbers.map((number) => (colour[number] ? 255 : 0)), I: numbers });
}

// Colours of label numbers, far apart for neighbouring numbers; 0 is transparent.
function colours(numbers) {
  const found = { 0: null };
  numbers.forEach((number, place) => {
    const hue = ((place * 137.508) % 360) / 60;
    const level = (shift) => {
      const k = (shift + hue) % 6;
      return Math.round(255 * (1 - 0.75 * Math.max(0, Math.min(k, 4 - k, 1))));
    };
    found[number] = [level(5), level(3), level(1)];
  });
  return found;
}

function shownRange(name) {
  return name === "error" ? [0, Number(find("error").value)] : find("window").value.split(",").map(Number);
}

function labelOpacity() {
  return Number(find("labels").value);
}

function applyWindow() {
  panels.forEach(({ name, nv }) => {
    [nv.volumes[0].cal_min, nv.volumes[0].cal_max] = shownRange(name);
    nv.updateGLVolume();
  });
}

function applyLabels() {
  panels.forEach(({ nv }) => {
    const place = nv.volumes.findIndex((volume) => volume.name === "labels.nii");
    if (place > 0) nv.setOpacity(place, labelOpacity());
  });
}

function applyConvention() {
  panels.forEach(({ nv }) => nv.setRadiologicalConvention(find("convention").value === "radiological"));
}

function applyLayout() {
  panels.forEach(({ nv }) => nv.setSliceType(Number(find("layout").value)));
}

// Position and values under the crosshair, of all panels: they have one voxel grid.
function readOut() {
  if (!panels.length || !panels[0].nv.volumes.length) return;
  const { nv } = panels[0];
  const [x, y, z] = nv.frac2mm(nv.scene.crosshairPos);
  const [i, j, k] = nv.frac2vox(nv.scene.crosshairPos);
  const side = (value, plus, minus) => `${value < 0 ? minus : plus} ${Math.abs(value).toFixed(1)}`;
  const labels = nv.volumes.find((volume) => volume.name === "labels.nii");
  const structure = labels ? scan.names[labels.getValue(i, j, k)] : undefined;
  find("place").textContent = [
    `${side(x, "R", "L")}  ${side(y, "A", "P")}  ${side(z, "S", "I")} mm`, `voxels of ${scan.spacing.map((mm) => +mm.toFixed(2)).join(" x ")} mm`,
    structure,
  ].filter(Boolean).join("   ·   ");
  panels.forEach(({ nv: other, readout }) => {
    readout.textContent = other.volumes.length ? `${Math.round(other.volumes[0].getValue(i, j, k))} HU` : "";
  });
}

function choose(id, value) {
  find(id).value = value;
  find(id).dispatchEvent(new Event("change"));
}

function cycle(id, by = 1) {
  const { options, selectedIndex } = find(id);
  choose(id, options[(selectedIndex + by + options.length) % options.length].value);
}

const KEYS = {
  n: ["next scan", () => cycle("scan")],
  p: ["previous scan", () => cycle("scan", -1)],
  v: ["next view", () => cycle("layout")],
  c: ["radiological or neurological convention", () => cycle("convention")],
  l: ["labels on or off", () => choose("labels", labelOpacity() ? 0 : 0.5)],
  "?": ["this list", () => find("keys").showModal()],
};
WINDOWS.forEach(([name, low, high], place) => {
  KEYS[place + 1] = [`window: ${name}`, () => choose("window", `${low},${high}`)];
});

function listKeys() {
  const rows = [...Object.entries(KEYS).map(([key, [purpose]]) => [key, purpose]), ["arrows, page up and down", "move the crosshair by a voxel"]];
  rows.forEach(([key, purpose]) => {
    const row = find("key-list").insertRow();
    row.insertCell().append(Object.assign(document.createElement("kbd"), { textContent: key }));
    row.insertCell().textContent = purpose;
  });
}

// Before NiiVue's own keys, which would act on one canvas alone.
function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || find("keys").open) return;
  const inList = event.target instanceof HTMLSelectElement || event.target instanceof HTMLInputElement;
  if (event.key in STEPS && !inList) {
    panels.forEach(({ nv }) => nv.moveCrosshairInVox(...STEPS[event.key]));
  } else if (event.key in KEYS && !(event.target instanceof HTMLSelectElement)) {
    KEYS[event.key][1]();
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
}

find("scan").addEventListener("change", guarded(() => show(Number(find("scan").value))));
find("window").addEventListener("change", guarded(applyWindow));
find("error").addEventListener("change", guarded(applyWindow));
find("layout").addEventListener("change", guarded(applyLayout));
find("convention").addEventListener("change", guarded(applyConvention));
find("labels").addEventListener("change", guarded(applyLabels));
find("labels").addEventListener("input", guarded(applyLabels));
find("help").addEventListener("click", () => find("keys").showModal());
addEventListener("keydown", pressed, true);
addEventListener("unhandledrejection", (event) => fail(event.reason));
addEventListener("error", (event) => fail(event.error || event.message));
guarded(start)();
