"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const shown = data.names.map(() => true);

for (const box of document.querySelectorAll("[data-shows]")) {
  box.addEventListener("change", () => {
    shown[box.dataset.shows] = box.checked;
    for (const curve of document.querySelectorAll(`[data-run="${box.dataset.shows}"]`)) {
      curve.toggleAttribute("hidden", !box.checked);
    }
  });
}

const logarithmic = document.getElementById("logarithmic");
if (logarithmic && document.querySelector("[data-both]")) {
  logarithmic.parentElement.hidden = false;
  logarithmic.addEventListener("change", () => {
    document.body.classList.toggle("logarithmic", logarithmic.checked);
  });
}

/** The index of the step nearest to `step`. */
function nearest(steps, step) {
  let low = 0, high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] <= step) low = middle; else high = middle;
  }
  return Math.abs(steps[low] - step) <= Math.abs(steps[high] - step) ? low : high;
}

for (const figure of document.querySelectorAll(".chart")) {
  const { series, drawings } = data.charts[figure.dataset.chart];
  const picture = figure.querySelector(".picture");
  const cursor = figure.querySelector(".cursor"), readout = figure.querySelector(".readout");
  let at = null;

  const visible = () => series.filter((one) => shown[one.run]);
  const steps = () => [...new Set(visible().flatMap((one) => one.steps))].sort((a, b) => a - b);
  const hide = () => { cursor.hidden = readout.hidden = true; at = null; };

  /** The drawing that is displayed, and how many pixels its unit is. */
  function current() {
    const svgs = [...figure.querySelectorAll("svg")];
    const number = svgs.findIndex((svg) => svg.clientWidth > 0);
    return { ...drawings[number], scale: svgs[number].clientWidth / svgs[number].viewBox.baseVal.width };
  }

  function show(step) {
    at = step;
    const { left, right, top, bottom, x_limits: [first, last], scale } = current();
    const x = scale * (left + (right - left) * (step - first) / (last - first));
    cursor.style.cssText = `left: ${x}px; top: ${scale * top}px; height: ${scale * (bottom - top)}px`;
    readout.replaceChildren(`step ${step.toLocaleString("en")}`);
    for (const one of visible()) {
      const index = nearest(one.steps, step), line = document.createElement("div");
      const value = one.values[index] === null ? "not finite" : Number(one.values[index].toPrecision(4));
      const where = one.steps[index] === step ? "" : ` (step ${one.steps[index].toLocaleString("en")})`;
      line.style.setProperty("--run", `var(--run-${one.run % data.colours})`);
      line.textContent = `${data.names[one.run]}, ${one.part}: ${value}${where}`;
      readout.append(line);
    }
    cursor.hidden = readout.hidden = false;
    // On the side where the pointer is not.
    const isRight = x > picture.clientWidth / 2;
    readout.style.left = isRight ? `${scale * left + 4}px` : "auto";
    readout.style.right = isRight ? "auto" : "4px";
  }

  picture.addEventListener("pointermove", (event) => {
    const known = steps();
    if (!known.length) return hide();
    const { left, right, x_limits: [first, last], scale } = current();
    const x = (event.clientX - picture.getBoundingClientRect().left) / scale;
    show(known[nearest(known, first + (last - first) * (x - left) / (right - left))]);
  });
  picture.addEventListener("pointerleave", hide);
  picture.addEventListener("blur", hide);
  picture.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key], known = steps();
    if (event.key === "Escape") return hide();
    if (!move || !known.length) return;
    event.preventDefault();
    const next = at === null ? (move > 0 ? 0 : known.length - 1) : nearest(known, at) + move;
    show(known[Math.min(Math.max(next, 0), known.length - 1)]);
  });
}
