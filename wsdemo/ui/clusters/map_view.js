// The map's canvas: gradio runs this with element, props, trigger and watch in scope.
const canvas = element.querySelector('.wm-canvas'), pen = canvas.getContext('2d');
const said = element.querySelector('.wm-said'), legend = element.querySelector('.wm-legend');
let data = null, at = -1, hover = -1, zoom = 1, cx = 0, cy = 0, drag = null, pictures = [], grown = 1;
const wide = () => canvas.clientWidth * 0.47 * zoom, high = () => canvas.clientHeight * 0.46 * zoom;
const toX = x => canvas.clientWidth / 2 + (x - cx) * wide();
const toY = y => canvas.clientHeight / 2 - (y - cy) * high();
const drawn = i => i >= 0 && i < data.x.length && data.x[i] !== null; // else: not fitted so
// Points lie on a layer of their own, drawn again only when they moved: 8,000 of them take a while.
const layer = document.createElement('canvas'), below = layer.getContext('2d');
let asked = false, onLayer = '', version = 0;
function draw() { if (!asked) { asked = true; requestAnimationFrame(paint); } }
function paint() {
  asked = false;
  if (!data) return;
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const view = [version, width, height, zoom, cx, cy].join();
  if (view !== onLayer) { onLayer = view; paintPoints(width, height, ratio); }
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.drawImage(layer, 0, 0);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (data.path && data.path.length > 1) {
    pen.strokeStyle = '#111827'; pen.lineWidth = 1.5; pen.beginPath();
    data.path.slice(0, Math.ceil(grown * data.path.length)).forEach(([x, y], k) => k ? pen.lineTo(toX(x), toY(y)) : pen.moveTo(toX(x), toY(y)));
    pen.stroke();
  }
  (data.marks || []).forEach(m => { pen.fillStyle = '#111827'; pen.font = '13px sans-serif';
    pen.beginPath(); pen.arc(toX(m.x), toY(m.y), 6, 0, 7); pen.fill();
    pen.fillText(m.label, toX(m.x) + 9, toY(m.y) + 4); });
  ring(hover, '#6366f1', 7); ring(at, '#111827', 9);
  canvas.dataset.points = data.x.filter(x => x !== null).length; // what a test can see
}
function dot(colour, r, ratio, ringed) { // one point, to be stamped
  const stamp = document.createElement('canvas'), side = Math.ceil((2 * r + 2) * ratio);
  stamp.width = stamp.height = side;
  const ink = stamp.getContext('2d');
  ink.globalAlpha = 0.75; ink.fillStyle = colour;
  ink.beginPath(); ink.arc(side / 2, side / 2, r * ratio, 0, 7); ink.fill();
  if (ringed) { ink.globalAlpha = 1; ink.strokeStyle = '#111827'; ink.lineWidth = 0.7 * ratio; ink.stroke(); }
  return stamp;
}
function paintPoints(width, height, ratio) {
  layer.width = width; layer.height = height; // clears it
  const r = Math.max(1.6, Math.min(5, 90 / Math.sqrt(data.x.length) * Math.sqrt(zoom)));
  const stamps = data.palette.map(colour => [false, true].map(ringed => dot(colour, r, ratio, ringed)));
  const reach = r + 2, right = canvas.clientWidth + reach, bottom = canvas.clientHeight + reach;
  for (let i = 0; i < data.x.length; i++) {
    if (!drawn(i)) continue;
    const x = toX(data.x[i]), y = toY(data.y[i]);
    if (x < -reach || y < -reach || x > right || y > bottom) continue;
    const stamp = stamps[data.c[i]][data.held && i >= data.held ? 1 : 0];
    below.drawImage(stamp, x * ratio - stamp.width / 2, y * ratio - stamp.height / 2);
  }
  below.setTransform(ratio, 0, 0, ratio, 0, 0);
  below.globalCompositeOperation = 'multiply'; // their pale ground lets points through
  pictures.forEach(p => { if (p.image.complete) {
    const s = p.size * Math.min(2.5, Math.sqrt(zoom));
    below.drawImage(p.image, toX(p.x) - s / 2, toY(p.y) - s / 2, s, s); } });
}
function ring(i, colour, r) {
  if (!drawn(i)) return;
  pen.strokeStyle = colour; pen.lineWidth = 2.5; pen.beginPath();
  pen.arc(toX(data.x[i]), toY(data.y[i]), r, 0, 7); pen.stroke();
}
function nearest(px, py) {
  let best = -1, far = 400;
  for (let i = 0; i < data.x.length; i++) {
    if (!drawn(i)) continue;
    const dx = toX(data.x[i]) - px, dy = toY(data.y[i]) - py, d = dx * dx + dy * dy;
    if (d < far) { far = d; best = i; }
  }
  return best;
}
function tell(i) {
  if (i < 0) return;
  said.textContent = data.names[i] + ' · ' + data.classes[data.c[i]] +
    (data.held && i >= data.held ? ' · held out' : '');
}
function open(i) { if (i < 0) return; at = i; draw(); tell(i); trigger('select', { index: i }); }
function place(e) { const b = canvas.getBoundingClientRect();
  return [e.clientX - b.left, e.clientY - b.top]; }
canvas.addEventListener('pointermove', e => {
  if (!data) return;
  const [px, py] = place(e);
  if (drag) { cx = drag.cx - (px - drag.px) / wide(); cy = drag.cy + (py - drag.py) / high();
    drag.moved = drag.moved || Math.hypot(px - drag.px, py - drag.py) > 4; return draw(); }
  const i = nearest(px, py);
  if (i !== hover) { hover = i; draw(); tell(i); }
});
canvas.addEventListener('pointerdown', e => { const [px, py] = place(e);
  drag = { px, py, cx, cy, moved: false }; });
canvas.addEventListener('pointerup', e => { const was = drag; drag = null;
  if (data && was && !was.moved) { const [px, py] = place(e); open(nearest(px, py)); } });
canvas.addEventListener('pointerleave', () => { drag = null; hover = -1; draw(); });
canvas.addEventListener('wheel', e => { e.preventDefault();
  zoom = Math.max(1, Math.min(40, zoom * Math.exp(-e.deltaY / 400)));
  if (zoom === 1) { cx = 0; cy = 0; } draw(); }, { passive: false });
canvas.addEventListener('keydown', e => {
  if (!data) return;
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[e.key];
  if (e.key === 'Enter') { if (drawn(at)) open(at); return; }
  if (e.key === '+') {
    zoom = Math.min(40, zoom * 1.3);
    if (drawn(at)) { cx = data.x[at]; cy = data.y[at]; }
    return draw();
  }
  if (e.key === '-') {
    zoom = Math.max(1, zoom / 1.3);
    if (zoom === 1) { cx = 0; cy = 0; }
    return draw();
  }
  if (!way) return;
  e.preventDefault();
  if (!drawn(at)) { at = data.x.findIndex(x => x !== null); draw(); return tell(at); }
  let best = -1, least = 1e9;
  for (let i = 0; i < data.x.length; i++) {
    if (!drawn(i)) continue;
    const dx = data.x[i] - data.x[at], dy = data.y[i] - data.y[at];
    const along = dx * way[0] + dy * way[1], across = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
    if (along > 1e-6 && along + 3 * across < least) { least = along + 3 * across; best = i; }
  }
  if (best >= 0) { at = best; draw(); tell(best); }
});
function replay() { // the way of a fit, drawn in two seconds
  const began = performance.now();
  const step = now => { grown = Math.min(1, (now - began) / 2000); draw();
    if (grown < 1) requestAnimationFrame(step); };
  requestAnimationFrame(step);
}
function load() {
  const fresh = props.value;
  if (!fresh || !fresh.points) return;
  const other = !data || data.set !== fresh.set;
  data = { ...fresh, ...JSON.parse(fresh.points) }; version++;
  if (other) { at = -1; zoom = 1; cx = 0; cy = 0; said.textContent = ''; }
  if (fresh.selected >= 0) at = fresh.selected;
  pictures = (data.pictures || []).map(p => { const image = new Image();
    image.onload = () => { version++; draw(); }; image.src = p.src; return { ...p, image }; });
  legend.replaceChildren(...data.classes.map((name, k) => { const s = document.createElement('span');
    const dot = document.createElement('i'); dot.style.background = data.palette[k];
    s.append(dot, document.createTextNode(name)); return s; }));
  if ((data.path || []).length > 1) replay(); else draw();
}
watch('value', load);
new ResizeObserver(draw).observe(canvas);
load();
