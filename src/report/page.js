// Shows the images of the points of a scatter plot: <svg class="scatter"> is followed by an <img class="sprite">
// whose cells, data-columns in a row, belong to the circles by their data-i.
// Shows the values of the points of a chart that are nearest to the pointer.  An <svg class="chart"> has the
// range of x in data-low and data-high; each <g class="curve"> has its points in data-x and data-y.
"use strict";
(() => {
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);

  const short = value => Number(value.toPrecision(6));
  const numbers = text => text.split(",").map(t => t === "" ? NaN : Number(t));
  const points = new WeakMap();
  const pointsOf = curve => {
    if (!points.has(curve))
      points.set(curve, {x: numbers(curve.dataset.x), y: numbers(curve.dataset.y)});
    return points.get(curve);
  };

  const place = event => {
    const left = event.clientX + 14 + tip.offsetWidth < document.documentElement.clientWidth
      ? event.clientX + 14 : Math.max(0, event.clientX - 14 - tip.offsetWidth);
    tip.style.left = `${left}px`;
    tip.style.top = `${Math.max(0, Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight))}px`;
  };

  const nearest = (p, x) => {
    let best = -1;
    p.x.forEach((value, i) => {
      if (!Number.isNaN(p.y[i]) && (best < 0 || Math.abs(value - x) < Math.abs(p.x[best] - x)))
        best = i;
    });
    return best;
  };

  const show = (chart, event) => {
    const d = chart.dataset, box = chart.getBoundingClientRect();
    const scale = chart.viewBox.baseVal.width / box.width;
    const at = ((event.clientX - box.left) * scale - d.left) / (d.right - d.left);
    const x = Number(d.low) + at * (d.high - d.low);
    const lines = [];
    let shown = NaN;
    for (const curve of chart.querySelectorAll(".curve")) {
      const p = pointsOf(curve), i = nearest(p, x);
      if (i < 0)
        continue;
      if (Number.isNaN(shown) || Math.abs(p.x[i] - x) < Math.abs(shown - x))
        shown = p.x[i];
      lines.push([p.x[i], `${curve.dataset.name}: ${short(p.y[i])}`]);
    }
    const texts = lines.map(([px, text]) => px === shown ? text : `${text} (${d.xTitle} ${short(px)})`);
    tip.textContent = [`${d.xTitle} ${short(shown)}`, ...texts].join("\n");
    tip.hidden = lines.length === 0;
    place(event);
    let line = chart.querySelector(".pointer");
    if (!line) {
      line = document.createElementNS("http://www.w3.org/2000/svg", "path");
      line.setAttribute("class", "pointer");
      chart.append(line);
    }
    const px = Number(d.left) + (shown - d.low) / (d.high - d.low) * (d.right - d.left);
    line.setAttribute("d", `M${px} ${d.top}V${d.bottom}`);
  };

  const hide = chart => {
    tip.hidden = true;
    chart.querySelector(".pointer")?.remove();
  };

  const showImage = (plot, sprite, event) => {
    const dot = event.target.closest(".dot[data-i]");
    tip.hidden = !dot;
    if (!dot)
      return;
    const i = Number(dot.dataset.i), {columns, cell} = plot.dataset, zoom = 96 / cell;
    const image = document.createElement("div");
    image.className = "image";
    image.style.cssText = `width: 96px; height: 96px; background: url(${sprite.src}) ` +
      `${-(i % columns) * 96}px ${-Math.floor(i / columns) * 96}px / ${sprite.naturalWidth * zoom}px auto`;
    tip.textContent = dot.querySelector("title").textContent;
    tip.append(image);
    place(event);
  };

  for (const plot of document.querySelectorAll("svg.scatter")) {
    let sprite = plot.nextElementSibling;
    while (!sprite.matches(".sprite"))
      sprite = sprite.nextElementSibling;
    plot.addEventListener("pointermove", event => showImage(plot, sprite, event));
    plot.addEventListener("pointerleave", () => { tip.hidden = true; });
  }

  for (const chart of document.querySelectorAll("svg.chart")) {
    chart.addEventListener("pointermove", event => show(chart, event));
    chart.addEventListener("pointerdown", event => show(chart, event));
    chart.addEventListener("pointerleave", () => hide(chart));
  }
})();
