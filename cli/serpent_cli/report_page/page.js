"use strict";
// A line between two pictures, zoom, and the difference. Everything is in the page; nothing is loaded.
(() => {
  const LARGEST_ZOOM = 32; // screen pixels to a picture pixel
  const WHEEL_STEP = 1.0015; // per pixel that the wheel scrolls
  const BUTTON_STEP = 1.5;
  const PAN_STEP = 40;
  const byId = (id) => document.getElementById(id);
  const stage = byId("stage");
  const divider = byId("divider");
  const frames = new Map([...stage.querySelectorAll(".frame")].map((frame) => [frame.dataset.picture, frame]));
  const image = stage.querySelector("img");
  const width = Number(image.getAttribute("width"));
  const height = Number(image.getAttribute("height"));
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  // The picture's top left corner on the stage and its scale, in CSS pixels; the line in percent of the stage.
  let x = 0, y = 0, scale = 1, split = 50, fitted = true;
  const actual = () => 1 / window.devicePixelRatio;
  const fitScale = () =>
    Math.min(stage.clientWidth / width, stage.clientHeight / height, LARGEST_ZOOM * actual());
  const inSlider = () => stage.dataset.view === "slider";
  const movable = () => width * scale > stage.clientWidth + 1 || height * scale > stage.clientHeight + 1;

  function draw() {
    const place = (offset, room, size) => (size <= room ? (room - size) / 2 : clamp(offset, room - size, 0));
    x = place(x, stage.clientWidth, width * scale);
    y = place(y, stage.clientHeight, height * scale);
    const whole = (offset) => `${Math.round(offset / actual()) * actual()}px`; // else 1:1 would be blurred
    stage.style.setProperty("--x", whole(x));
    stage.style.setProperty("--y", whole(y));
    stage.style.setProperty("--scale", scale);
    stage.style.setProperty("--split", `${split}%`);
    stage.toggleAttribute("data-movable", movable());
    stage.toggleAttribute("data-pixelated", scale / actual() >= 2);
    byId("scale").textContent = `${Number(((scale / actual()) * 100).toPrecision(3))} %`;
    divider.setAttribute("aria-valuenow", Math.round(split));
    divider.setAttribute("aria-valuetext", `${Math.round(split)} % ${byId("left-tag").textContent}`);
  }

  function fit() {
    fitted = true;
    scale = fitScale();
    draw();
  }

  // Zoom so that what lies under (atX, atY) of the stage stays there.
  function zoom(wanted, atX = stage.clientWidth / 2, atY = stage.clientHeight / 2) {
    const next = clamp(wanted, Math.min(fitScale(), actual()), LARGEST_ZOOM * actual());
    fitted = false;
    x = atX - ((atX - x) * next) / scale;
    y = atY - ((atY - y) * next) / scale;
    scale = next;
    draw();
  }

  function pan(right, down) {
    x += right;
    y += down;
    draw();
  }

  function moveLine(percent) {
    split = clamp(percent, 0, 100);
    draw();
  }

  function show() {
    const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`);
    const pair = (chosen("pair") ?? document.querySelector("input[name=pair]")).value;
    const [left, right] = pair.split(" ");
    stage.dataset.view = chosen("view").value;
    const sides = inSlider() ? { [left]: "left", [right]: "right" } : { [`${left}-${right}`]: "whole" };
    for (const [name, frame] of frames) {
      if (name in sides) frame.dataset.side = sides[name];
      else delete frame.dataset.side;
    }
    const label = (name) => frames.get(name).dataset.label;
    byId("left-tag").textContent = inSlider() ? label(left) : label(`${left}-${right}`);
    byId("right-tag").textContent = inSlider() ? label(right) : "";
    byId("caption").textContent = frames.get(`${left}-${right}`).dataset.caption;
    draw();
  }

  // One pointer moves the line or the picture, two zoom.
  const pointers = new Map();
  let moving = null;
  const onStage = (event) => {
    const edge = stage.getBoundingClientRect();
    return [event.clientX - edge.left - stage.clientLeft, event.clientY - edge.top - stage.clientTop];
  };
  const lineAt = (event) => (onStage(event)[0] / stage.clientWidth) * 100;
  const spread = () => {
    const [[ax, ay], [bx, by]] = [...pointers.values()];
    return { distance: Math.hypot(ax - bx, ay - by), atX: (ax + bx) / 2, atY: (ay + by) / 2 };
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, onStage(event));
    const line = inSlider() && (event.target === divider || !movable());
    moving = line ? "line" : "picture";
    stage.toggleAttribute("data-grabbed", !line);
  });
  stage.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (before === undefined) return;
    const now = onStage(event);
    if (pointers.size === 2) {
      const old = spread();
      pointers.set(event.pointerId, now);
      const found = spread();
      pan(found.atX - old.atX, found.atY - old.atY);
      zoom((scale * found.distance) / Math.max(old.distance, 1), found.atX, found.atY);
      return;
    }
    pointers.set(event.pointerId, now);
    if (moving === "line") moveLine(lineAt(event));
    else pan(now[0] - before[0], now[1] - before[1]);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => {
      if (pointers.delete(event.pointerId) && moving === "line") divider.focus({ preventScroll: true });
      stage.removeAttribute("data-grabbed");
    });
  }
  stage.addEventListener("click", (event) => {
    if (inSlider() && !movable()) moveLine(lineAt(event));
  });
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : 30);
    zoom(scale * WHEEL_STEP ** -pixels, ...onStage(event));
  }, { passive: false });

  divider.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const to = {
      ArrowLeft: split - step, ArrowDown: split - step, ArrowRight: split + step, ArrowUp: split + step,
      PageDown: split - 10, PageUp: split + 10, Home: 0, End: 100,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation(); // else the same arrow would move the picture, too
    moveLine(to);
  });
  const buttons = {
    in: () => zoom(scale * BUTTON_STEP), out: () => zoom(scale / BUTTON_STEP), fit, actual: () => zoom(actual()),
  };
  const keys = {
    "+": buttons.in, "=": buttons.in, "-": buttons.out, 0: fit, 1: buttons.actual,
    ArrowLeft: () => pan(PAN_STEP, 0), ArrowRight: () => pan(-PAN_STEP, 0),
    ArrowUp: () => pan(0, PAN_STEP), ArrowDown: () => pan(0, -PAN_STEP),
  };
  stage.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key.startsWith("Arrow") && !movable()) return; // the page scrolls
    event.preventDefault();
    keys[event.key]();
  });
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", buttons[button.dataset.zoom]);
  }
  for (const input of document.querySelectorAll("input[name=view], input[name=pair]")) {
    input.addEventListener("change", show);
  }

  stage.style.setProperty("--width", `${width}px`);
  stage.style.setProperty("--height", `${height}px`);
  stage.style.aspectRatio = `${width} / ${height}`;
  new ResizeObserver(() => (fitted ? fit() : draw())).observe(stage);
  show();
  fit();
})();
