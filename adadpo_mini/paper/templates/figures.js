// Draws the figure in every <figure>, in the colours of the page, light or dark.
const choice = document.getElementById("data-set");  // null on a page without a choice
const config = { displayModeBar: false, displaylogo: false, showSendToCloud: false,
                 responsive: true };
const figures = [...document.querySelectorAll("figure")].map((figure) => ({
  place: figure.querySelector(".plot"),
  byChoice: JSON.parse(figure.querySelector("script").textContent),
}));

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function themed(layout) {
  const axis = { gridcolor: colour("--line"), zeroline: false, linecolor: colour("--line"),
                 automargin: true, fixedrange: true };
  const axes = Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
  return {
    ...layout,
    ...Object.fromEntries(axes.map((key) => [key, { ...layout[key], ...axis }])),
    autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--ink"), size: 12, family: "system-ui, sans-serif" },
    hoverlabel: { bgcolor: colour("--page"), bordercolor: colour("--quiet"),
                  font: { color: colour("--ink") } },
  };
}

async function draw() {
  for (const { place, byChoice } of figures) {
    const figure = byChoice[choice?.value] ?? byChoice[""] ?? { data: [], layout: {} };
    await Plotly.react(place, figure.data, themed(figure.layout), config);
  }
  document.body.dataset.drawn = figures.length;
}

choice?.addEventListener("change", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
