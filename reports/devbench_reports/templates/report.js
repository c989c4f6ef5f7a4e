"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("charts").textContent);
  const drawn = new Set();

  // Colours are the style sheet's, so that dark and light are decided in one place.
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const themed = (figure, width) => {
    const ink = colour("--ink"), line = colour("--line");
    const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, tickfont: { size: 12 }, showline: true };
    const layout = {
      ...figure.layout,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, size: 13, family: getComputedStyle(document.body).fontFamily },
      margin: { l: 48, r: 14, t: 14, b: 44 },
      hoverlabel: { bgcolor: colour("--page"), bordercolor: line, font: { color: ink }, align: "left" },
      showlegend: false, dragmode: false, hovermode: "closest",
      xaxis: { ...axis, ...figure.layout.xaxis }, yaxis: { ...axis, ...figure.layout.yaxis },
      shapes: (figure.layout.shapes || []).map((shape) => (
        { ...shape, line: { ...shape.line, color: colour("--quiet") } }
      )),
    };
    // Plotly turns dates that do not fit beside one another; a page may be as narrow as a telephone.
    if (layout.xaxis.type === "date") {
      layout.xaxis.nticks = Math.min(6, Math.max(2, Math.floor(width / 80)));
      layout.xaxis.tickangle = 0;
    }
    const data = figure.data.map((trace) => {
      const paint = colour("--series-" + trace.meta.colour);
      const styled = { ...trace, marker: { ...trace.marker, color: paint } };
      if (trace.line) styled.line = { ...trace.line, color: paint };
      for (const bars of ["error_x", "error_y"]) {
        if (trace[bars]) styled[bars] = { ...trace[bars], color: trace.type === "bar" ? ink : paint };
      }
      return styled;
    });
    return { data, layout };
  };
  const config = {
    displaylogo: false, responsive: true, displayModeBar: false, scrollZoom: false, doubleClick: false,
  };
  const draw = (place) => {
    const { data, layout } = themed(figures[place.dataset.chart], place.clientWidth);
    drawn.add(place);
    return Plotly.react(place, data, layout, config);
  };

  // A chart is drawn when it comes near the window; one in a closed panel when that is opened.
  const places = [...document.querySelectorAll(".chart")];
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
    }
  }, { rootMargin: "600px" });
  places.forEach((place) => watcher.observe(place));

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
  addEventListener("beforeprint", () => {
    places.filter((place) => place.offsetParent && !drawn.has(place)).forEach(draw);
  });

  const table = document.getElementById("results");
  if (!table) return;
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    if ("key" in cell.dataset) return Number(cell.dataset.key);
    return cell.textContent === "–" ? null : cell.textContent;
  };
  const compare = (a, b) => (
    typeof a === "number" && typeof b === "number"
      ? a - b : String(a).localeCompare(String(b), "en", { numeric: true })
  );
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort((first, second) => {
      const a = key(first, column), b = key(second, column);
      if (a === null || b === null) return (a === null) - (b === null); // nothing comes last either way
      return up ? compare(a, b) : compare(b, a);
    });
    body.append(...rows);
  }));

  const filter = document.getElementById("filter"), shown = document.getElementById("shown");
  const show = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      count += !row.hidden;
    }
    shown.textContent = count + " of " + rows.length;
  };
  filter.addEventListener("input", show);
  show();
})();
