// The live chart: draws the run's figure once, then only ever extends its traces.
// Runs inside gr.HTML: `element` is the component, `props.value` the newest message, a JSON text
// {run, from, to, points: [[method, step, chosen, rejected], ...], figure?, steps?}.

const plot = element.querySelector(".plot");
const config = { displaylogo: false, showSendToCloud: false, responsive: true,
                 modeBarButtonsToRemove: ["select2d", "lasso2d"] };
const EMPTY = { data: [], layout: { xaxis: { title: { text: "training step" }, range: [0, 120] },
  yaxis: { range: [-20, 5] } } };
let drawn = EMPTY; // the figure whose names have to fit
let run = null;   // id of the run that is drawn
let seen = 0;     // how many of its events have arrived
let ready = Promise.resolve();

const isDark = () => document.body.classList.contains("dark");
const isNarrow = () => plot.clientWidth < 520;

const yTitle = () => isNarrow() ? "log-prob change (nats)"
  : "change in log-prob against the reference<br>(nats per completion)";

// Room on the right for the longest name, its value, and the gap between line and label.
const roomForLabels = () => 8.2 * Math.max(12, ...(drawn.data ?? []).map((t) => t.meta.length)) + 60;

function themed(layout) {
  const ink = isDark() ? "#d7dbe2" : "#2b303a";
  const grid = isDark() ? "#3a404c" : "#e4e7ec";
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true };
  return { ...layout, font: { ...layout.font, color: ink, family: "system-ui, sans-serif" },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
    height: isNarrow() ? 360 : 440, uirevision: "keep",
    hoverlabel: { bgcolor: isDark() ? "#1f242d" : "#ffffff", font: { color: ink } },
    margin: { l: 60, r: isNarrow() ? 12 : roomForLabels(), t: 12, b: 50 }, showlegend: isNarrow(),
    legend: { orientation: "h", y: -0.22, yanchor: "top", x: 0 },
    xaxis: { ...layout.xaxis, ...axis },
    yaxis: { ...layout.yaxis, ...axis, title: { text: yTitle() } } };
}

function draw(figure, steps) {
  drawn = figure;
  const layout = themed(figure.layout);
  if (steps) layout.xaxis = { ...layout.xaxis, range: [0, steps], autorange: false };
  return Plotly.newPlot(plot, figure.data, layout, config);
}

// Each line's name at its end, moved apart where two ends meet.
function labels() {
  if (isNarrow()) return [];
  const axis = plot._fullLayout.yaxis;
  const ends = plot.data.filter((trace) => trace.x && trace.x.length).map((trace) => ({
    name: trace.meta, colour: trace.line.color, x: trace.x[trace.x.length - 1],
    y: trace.y[trace.y.length - 1] }));
  ends.sort((a, b) => b.y - a.y);
  let above = -Infinity;
  return ends.map((end) => {
    const wanted = axis.l2p(end.y);
    const placed = Math.max(wanted, above + 17);
    above = placed;
    return { x: end.x, y: end.y, xanchor: "left", yanchor: "middle", showarrow: false, xshift: 6,
      yshift: wanted - placed, font: { color: end.colour, size: 13 },
      text: `<b>${end.name}</b> ${end.y >= 0 ? "+" : "−"}${Math.abs(end.y).toFixed(1)}` };
  });
}

async function extend(points) {
  const traces = plot.data.map((trace) => trace.name);
  const x = new Map(), y = new Map();
  for (const [method, step, chosen, rejected] of points) {
    for (const [side, value] of [["chosen", chosen], ["rejected", rejected]]) {
      const index = traces.indexOf(`${method} ${side}`);
      if (!x.has(index)) { x.set(index, []); y.set(index, []); }
      x.get(index).push(step);
      y.get(index).push(value);
    }
  }
  if (!x.size) return;
  await Plotly.extendTraces(plot, { x: [...x.values()], y: [...y.values()] }, [...x.keys()]);
  await Plotly.relayout(plot, { annotations: labels() });
}

async function receive(text) {
  if (!text) return;
  const message = JSON.parse(text);
  if (message.run === null) return;
  if (message.figure && (message.run !== run || seen > 0)) {
    [run, seen] = [message.run, 0];
    plot.dataset.run = run;
    await draw(message.figure, message.steps);
  }
  if (message.run !== run || message.from !== seen) return trigger("resync");
  seen = message.to;
  await extend(message.points);
}

// After a change of theme or width.
async function restyle() {
  if (!plot.layout || !plot.clientWidth) return;
  await Plotly.relayout(plot, { ...themed(plot.layout), annotations: [] });
  await Plotly.Plots.resize(plot);
  await Plotly.relayout(plot, { annotations: labels() });
}

ready = draw(EMPTY).then(() => { if (props.value) return receive(props.value); });
watch("value", () => { const text = props.value; ready = ready.then(() => receive(text)); });
new MutationObserver(restyle).observe(document.body, { attributeFilter: ["class"] });
let width = plot.clientWidth;
new ResizeObserver(() => {
  if (plot.clientWidth !== width) { width = plot.clientWidth; restyle(); }
}).observe(element);
