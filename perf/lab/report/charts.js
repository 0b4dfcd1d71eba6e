// Draws the models that models.js builds, with uPlot. Colours and dashes come from style.css, so
// that a line, its legend and the tables agree; the results are the JSON in the element #data.
"use strict";
(() => {
  const { results, slots } = JSON.parse(document.getElementById("data").textContent);
  const { BUILDERS, latencyTick } = models;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const FONT = "12px " + css("--sans"),
    BOLD = "600 12px " + css("--sans");
  const colourOf = (line) => (line.noise ? css("--noise") : css("--c" + slots[line.name]));
  const dashOf = (line) => {
    if (line.dash) return line.dash;
    if (line.noise) return [1, 2];
    const dash = css("--dash" + slots[line.name]);
    return dash === "none" ? [] : dash.split(" ").map(Number);
  };
  const drawn = (model) =>
    model.lines
      .flatMap((line) => [
        line.data,
        line.low || [],
        line.high || [],
        (line.points || []).map((p) => p.y),
      ])
      .flat()
      .filter((value) => value != null && value > 0);

  // From the 1, 2 or 5 below the lowest figure to the one above the highest.
  const logRange = (values, limit) => {
    const round = (value, up) => {
      const power = 10 ** Math.floor(Math.log10(value));
      const steps = [1, 2, 5, 10].map((step) => step * power);
      return up
        ? steps.find((step) => step >= value * 0.999)
        : steps.reverse().find((step) => step <= value * 1.001);
    };
    const all = limit ? [...values, limit] : values;
    const low = all.reduce((a, b) => Math.min(a, b)),
      high = all.reduce((a, b) => Math.max(a, b));
    return [round(low, false), Math.max(round(high, true), round(low, false) * 10)];
  };
  const logTicks = ([low, high]) => {
    const decades = Math.log10(high / low),
      steps = decades > 3.2 ? [1] : [1, 2, 5],
      ticks = [];
    for (let power = 10 ** Math.floor(Math.log10(low) + 1e-9); power <= high; power *= 10) {
      for (const step of steps)
        if (step * power >= low * 0.999 && step * power <= high * 1.001) ticks.push(step * power);
    }
    return ticks.map((tick) => Number(tick.toPrecision(6)));
  };
  const roundStep = (span, most, unit = 1) => {
    const rough = span / most / unit,
      power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= rough * 0.999) * unit;
  };
  const linearTicks = (low, high, step) => {
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high * 1.0001; ++k)
      ticks.push(Number((k * step).toPrecision(10)));
    return ticks;
  };

  const xScale = (model, width) => {
    const first = model.x[0],
      last = model.x[model.x.length - 1];
    if (model.xRange)
      return { range: model.xRange, ticks: model.xTicks.filter((tick) => tick <= model.xRange[1]) };
    const scaleEnd = model.fromZero && !model.xTicksAt ? last * 1.04 : last;
    const low = model.fromZero && !model.xTicksAt ? 0 : first,
      high = scaleEnd > low ? scaleEnd : low + 1;
    const most = Math.max(3, Math.floor(width / 60)),
      span = high - low;
    const step = model.xTicksAt
      ? model.xTicksAt.find((one) => span / one <= most) || roundStep(span, most)
      : roundStep(span, most);
    return { range: [low, high], ticks: linearTicks(low, high, step) };
  };
  const yScale = (model) => {
    const values = model.yRange || drawn(model),
      some = values.length ? values : [1, 10];
    if (model.yLog) {
      const range = logRange(some, model.limit);
      return { range, ticks: logTicks(range) };
    }
    const top =
      Math.max(
        some.reduce((a, b) => Math.max(a, b)),
        model.limit || 0,
      ) * 1.06;
    const unit = model.ySize ? 1024 ** Math.floor(Math.log(top) / Math.log(1024)) : 1;
    return { range: [0, top], ticks: linearTicks(0, top, roundStep(top, 5, unit)) };
  };

  const withContext = (u, draw) => {
    u.ctx.save();
    const ratio = devicePixelRatio;
    u.ctx.scale(ratio, ratio);
    draw(u.ctx, (value, scale) => u.valToPos(value, scale, true) / ratio, {
      left: u.bbox.left / ratio,
      top: u.bbox.top / ratio,
      width: u.bbox.width / ratio,
      height: u.bbox.height / ratio,
    });
    u.ctx.restore();
  };
  const shape = (ctx, slot, x, y) => {
    ctx.beginPath();
    if (slot % 4 === 0) ctx.arc(x, y, 3.8, 0, 7);
    if (slot % 4 === 1) ctx.rect(x - 3.4, y - 3.4, 6.8, 6.8);
    const corners =
      slot % 4 === 2
        ? [
            [0, -4.6],
            [4.4, 3.4],
            [-4.4, 3.4],
          ]
        : slot % 4 === 3
          ? [
              [0, -4.8],
              [4.8, 0],
              [0, 4.8],
              [-4.8, 0],
            ]
          : [];
    corners.forEach(([dx, dy], i) => (i ? ctx.lineTo(x + dx, y + dy) : ctx.moveTo(x + dx, y + dy)));
    if (corners.length) ctx.closePath();
  };

  const drawMarks = (model) => (u) =>
    withContext(u, (ctx, pos, box) => {
      ctx.setLineDash([]);
      for (const line of model.lines) {
        const colour = colourOf(line);
        for (const point of line.points || []) {
          shape(ctx, slots[line.name], pos(point.x, "x"), pos(point.y, "y"));
          ctx.lineWidth = 1.5;
          ctx.strokeStyle = colour;
          ctx.fillStyle = point.hollow ? css("--back") : colour;
          ctx.fill();
          ctx.stroke();
        }
        ctx.lineWidth = 1.5;
        ctx.strokeStyle = css("--bad");
        for (const cross of line.crosses || [])
          drawCross(ctx, pos(cross.x, "x"), pos(cross.y, "y"), 2.5);
      }
      ctx.strokeStyle = css("--bad");
      ctx.lineWidth = 1.5;
      for (const t of model.bad || []) drawCross(ctx, pos(t, "x"), box.top + 5, 2.5);
      if (model.limit)
        drawLimit(
          ctx,
          pos(model.limit, "y"),
          box,
          model.limitName || "limit " + latencyTick(model.limit),
        );
    });
  const drawCross = (ctx, x, y, reach) => {
    ctx.beginPath();
    ctx.moveTo(x - reach, y - reach);
    ctx.lineTo(x + reach, y + reach);
    ctx.moveTo(x - reach, y + reach);
    ctx.lineTo(x + reach, y - reach);
    ctx.stroke();
  };
  const drawLimit = (ctx, y, box, name) => {
    ctx.setLineDash([5, 3]);
    ctx.beginPath();
    ctx.moveTo(box.left, y);
    ctx.lineTo(box.left + box.width, y);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.font = FONT;
    ctx.textAlign = "left";
    ctx.textBaseline = "bottom";
    legible(ctx, name, box.left + 6, y - 3, css("--bad"));
  };
  // Text that lines may pass behind.
  const legible = (ctx, words, x, y, colour) => {
    ctx.lineWidth = 4;
    ctx.lineJoin = "round";
    ctx.strokeStyle = css("--back");
    ctx.strokeText(words, x, y);
    ctx.fillStyle = colour;
    ctx.fillText(words, x, y);
  };
  // Names at the ends of the lines, pushed apart where they would meet.
  const isNamed = (line) => !line.follows && !line.noise;
  const nameOf = (line) => {
    const name = line.label || line.name;
    return name.length > 16 ? name.slice(0, 15) + "…" : name;
  };
  const drawNames = (model) => (u) =>
    withContext(u, (ctx, pos, box) => {
      ctx.setLineDash([]);
      const labels = model.lines
        .filter(isNamed)
        .map((line) => {
          let last = line.data.length - 1;
          while (last >= 0 && line.data[last] == null) --last;
          return last < 0
            ? null
            : {
                text: nameOf(line),
                x: pos(model.x[last], "x") + 7,
                y: pos(line.data[last], "y"),
                colour: colourOf(line),
              };
        })
        .filter(Boolean)
        .sort((a, b) => a.y - b.y);
      const floor = box.top + box.height - 6,
        width = nameWidth(model);
      labels.forEach((label, i) => {
        const above = labels
          .slice(0, i)
          .filter((other) => Math.abs(other.x - label.x) < width && label.y < other.y + 15);
        if (above.length) label.y = above[above.length - 1].y + 15;
      });
      const over = labels.reduce((most, label) => Math.max(most, label.y - floor), 0);
      ctx.font = BOLD;
      ctx.textBaseline = "middle";
      ctx.textAlign = "left";
      for (const label of labels) legible(ctx, label.text, label.x, label.y - over, label.colour);
    });
  const nameWidth = (model) => {
    const ctx = document.createElement("canvas").getContext("2d");
    ctx.font = BOLD;
    return (
      14 +
      model.lines
        .filter(isNamed)
        .reduce((most, line) => Math.max(most, ctx.measureText(nameOf(line)).width), 0)
    );
  };

  const axes = (model, x, y) => {
    const style = () => ({
      font: FONT,
      stroke: css("--muted"),
      grid: { stroke: css("--grid"), width: 1 },
      ticks: { show: false },
    });
    return [
      {
        ...style(),
        space: 0,
        splits: () => x.ticks,
        filter: (u, ticks) => ticks,
        values: (u, ticks) => ticks.map((tick) => model.xTick(tick)),
        size: model.xName ? 26 : 28,
        gap: 6,
        label: model.xName,
        labelSize: 18,
        labelGap: 2,
        labelFont: FONT,
      },
      {
        ...style(),
        space: 0,
        splits: () => y.ticks,
        filter: (u, ticks) => ticks,
        values: (u, ticks) => ticks.map((tick) => model.yTick(tick)),
        size: 64,
        gap: 6,
      },
    ];
  };

  const faded = (colour, part) =>
    colour +
    Math.round(255 * part)
      .toString(16)
      .padStart(2, "0");
  const seriesFor = (model) => {
    const series = [{}],
      data = [model.x],
      bands = [];
    for (const line of model.lines) {
      const colour = colourOf(line);
      if (line.high) {
        bands.push({ series: [data.length, data.length + 1], fill: faded(colour, 0.18) });
        for (const edge of [line.high, line.low]) {
          series.push({
            pxAlign: 0,
            stroke: faded(colour, 0.3),
            width: 0.5,
            points: { show: false },
          });
          data.push(edge);
        }
      }
      series.push({
        pxAlign: 0,
        stroke: faded(colour, line.alpha || 1),
        width: line.width || (line.noise ? 1.5 : 2.2),
        dash: dashOf(line),
        spanGaps: !!line.gaps,
        points: { show: false },
      });
      data.push(line.data);
    }
    return { series, data, bands };
  };

  class Chart {
    constructor(figure) {
      this.plot = figure.querySelector(".plot");
      this.legend = figure.querySelector(".legend");
      const step = results[figure.dataset.result].steps[figure.dataset.step];
      this.model = BUILDERS[figure.dataset.chart](step, figure.dataset.contender);
      this.start = this.model.start >= 0 ? this.model.start : null;
      this.plot.addEventListener("keydown", (event) => this.key(event));
      this.plot.addEventListener("blur", () => this.move(null));
      this.draw(this.plot.clientWidth);
      new ResizeObserver(() => {
        const width = this.plot.clientWidth,
          printing = "printing" in document.documentElement.dataset;
        if (width && width !== this.width && !printing) this.draw(width);
      }).observe(this.plot);
    }

    draw(width) {
      if (this.u) this.u.destroy();
      this.width = width;
      const model = this.model,
        named = width >= 460;
      const { series, data, bands } = seriesFor(model),
        height = width >= 700 ? 360 : 300;
      const y = yScale(model),
        right = named ? nameWidth(model) : 28,
        x = xScale(model, width - 64 - right);
      const scale = (one, log) => ({
        time: false,
        range: one.range,
        ...(log ? { distr: 3, log: 10 } : {}),
      });
      this.u = new uPlot(
        {
          width,
          height,
          legend: { show: false },
          padding: [10, right, 0, 0],
          bands,
          series,
          scales: { x: scale(x, model.xLog), y: scale(y, model.yLog) },
          axes: axes(model, x, y),
          cursor: { drag: { x: false, y: false, setScale: false }, points: { size: 6 }, y: false },
          hooks: {
            draw: [drawMarks(model), ...(named ? [drawNames(model)] : [])],
            setCursor: [() => this.read()],
          },
        },
        data,
        this.plot,
      );
      this.read();
    }

    // The legend: what each line is at the cursor, or at the chart's starting point.
    read() {
      const at = this.u && this.u.cursor.left >= 0 ? this.u.cursor.idx : null;
      const i = at ?? this.start,
        model = this.model;
      const rows = model.lines
        .filter((line) => !line.follows)
        .map((line) => {
          const [value, more] = i == null ? line.whole || ["", ""] : line.read(i, line.data);
          return { line, value, more };
        });
      const table = document.createElement("table"),
        caption = document.createElement("p");
      caption.textContent = i == null ? model.wholeHead : model.head(i);
      for (const { line, value, more } of rows) {
        const row = table.insertRow();
        const who = row.insertCell(),
          name = document.createElement("span");
        name.className = "who";
        name.append(sample_(line, model), line.label || line.name);
        who.append(name);
        const strong = document.createElement("b");
        strong.textContent = value;
        row.insertCell().append(strong);
        row.insertCell().textContent = more;
      }
      this.legend.replaceChildren(caption, table);
    }

    move(index) {
      if (!this.u) return;
      if (index == null) this.u.setCursor({ left: -10, top: -10 });
      else this.u.setCursor({ left: this.u.valToPos(this.model.x[index], "x"), top: 10 });
    }

    key(event) {
      const last = this.model.x.length - 1,
        now = this.u.cursor.left >= 0 ? this.u.cursor.idx : (this.start ?? -1);
      const step = event.shiftKey ? 10 : 1;
      const to = {
        ArrowLeft: Math.max(0, now - step),
        ArrowRight: Math.min(last, now + step),
        Home: 0,
        End: last,
      }[event.key];
      if (event.key === "Escape") this.move(null);
      else if (to === undefined) return;
      else this.move(to);
      event.preventDefault();
    }
  }

  // The line's dash and mark for the legend.
  const sample_ = (line, model) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "swatch " + (line.noise ? "noise" : "c" + slots[line.name]));
    svg.setAttribute("width", 30);
    svg.setAttribute("height", 12);
    svg.setAttribute("aria-hidden", "true");
    const stroke = document.createElementNS(svg.namespaceURI, "line");
    for (const [key, value] of Object.entries({ x1: 0, x2: 30, y1: 6, y2: 6 }))
      stroke.setAttribute(key, value);
    if (line.dash) stroke.style.strokeDasharray = line.dash.length ? line.dash.join(" ") : "none";
    svg.append(stroke);
    if (line.points) {
      const mark = document.querySelector(".compared .swatch.c" + slots[line.name] + " .mark");
      if (mark) {
        svg.append(mark.cloneNode(true));
        svg.lastChild.setAttribute("transform", "translate(15 6)");
      }
    }
    return svg;
  };

  // One chart that fails takes no other with it, and says so in its place.
  const charts = [...document.querySelectorAll("figure.chart")].flatMap((figure) => {
    try {
      return [new Chart(figure)];
    } catch (error) {
      console.error(figure.dataset.chart, error);
      figure.querySelector(".plot").textContent = "This chart could not be drawn: " + error.message;
      return [];
    }
  });
  const redraw = (width) => charts.forEach((chart) => chart.draw(width || chart.plot.clientWidth));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());

  // On paper: light, one chart per line, nothing folded away but the runs.
  const PAPER_WIDTH = 660;
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.printing = "";
    document.querySelectorAll("details.facts").forEach((part) => (part.open = true));
    redraw(PAPER_WIDTH);
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.printing;
    redraw();
  });
})();
