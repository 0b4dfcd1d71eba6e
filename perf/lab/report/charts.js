// The charts of the lab's report, drawn with uPlot from the results in the element #data.
//
// A builder turns one step into a model: {x, lines, band?, …}. Everything below the builders draws
// any model. Colours and dashes come from style.css, so that a line, its legend and the tables agree.
"use strict";
(() => {
  const { results, slots } = JSON.parse(document.getElementById("data").textContent);

  // --- figures as people read them, by the rules of report_text.py ---

  const THIN = "\u202f";
  const grouped = (number) => {
    const digits = number.toFixed(0);
    return Math.abs(number) < 10000 ? digits : digits.replace(/\B(?=(\d{3})+$)/g, THIN);
  };
  const significant = (number, digits = 3) => {
    if (number === 0) return "0";
    const decimals = digits - 1 - Math.floor(Math.log10(Math.abs(Number(number.toPrecision(digits)))));
    return decimals <= 0 ? grouped(number) : number.toFixed(decimals);
  };
  const scaled = (number, units, step) => {
    let unit = 0;
    while (unit < units.length - 1 && Number(Math.abs(number).toPrecision(3)) >= step) {
      number /= step;
      ++unit;
    }
    return [number, units[unit]];
  };
  const writer = (units, step) => (number) => {
    if (number == null) return "–";
    const [value, unit] = scaled(number, units, step);
    return significant(value) + THIN + unit;
  };
  // Round figures of an axis lose their trailing zeros.
  const tickWriter = (units, step) => (number) => {
    if (number === 0) return "0";
    const [value, unit] = scaled(number, units, step);
    return grouped(Math.floor(value)) + (value % 1 ? String(Number((value % 1).toPrecision(3))).slice(1) : "") + THIN + unit;
  };
  const TIME = ["ns", "µs", "ms", "s"], SIZE = ["B", "KiB", "MiB", "GiB", "TiB"];
  const inNs = (write) => (us) => write(us == null ? null : us * 1000);
  const latency = inNs(writer(TIME, 1000)), latencyTick = inNs(tickWriter(TIME, 1000));
  const size = writer(SIZE, 1024), sizeTick = tickWriter(SIZE, 1024);
  const rate = (number) => (number == null ? "–" : significant(number, 4) + "/s");
  const rateTick = (number) => (number < 10000 ? grouped(number) : grouped(number / 1000) + THIN + "k");
  const moment = (seconds) => {
    if (seconds < 120) return seconds + THIN + "s";
    const rest = Math.round(seconds % 60);
    return Math.floor(seconds / 60) + THIN + "min" + (rest ? " " + rest + THIN + "s" : "");
  };
  const percent = (inverse) => {
    const decimals = Math.max(0, Math.ceil(Math.log10(inverse) - 2 - 1e-9));
    return (100 * (1 - 1 / inverse)).toFixed(decimals) + THIN + "%";
  };
  const range = (values, write) => {
    const known = values.filter((value) => value != null);
    if (known.length < 2) return "";
    const [low, high] = [write(Math.min(...known)), write(Math.max(...known))];
    if (low === high) return low;
    const unit = high.match(/\D*$/)[0];
    return (low.endsWith(unit) ? low.slice(0, low.length - unit.length) : low) + "–" + high;
  };
  const median = (values) => {
    const sorted = values.filter((value) => value != null).sort((a, b) => a - b);
    if (!sorted.length) return null;
    return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2;
  };

  // --- builders: one step of a result in, what to draw out ---

  const runsOf = (step, name) => (step.runs || []).filter((run) => run.contender === name);
  const namesIn = (step) => [...new Set([...(step.runs || []).map((run) => run.contender), ...Object.keys(step.merged || {})])]
    .filter((name) => name != null);
  const EXACT = { p50: 50, p90: 90, p99: 99, p999: 99.9, p9999: 99.99 };

  // A spectrum as [1/(1-p), µs] in rising order, with the exact percentiles in it.
  const curve = (part) => {
    const points = new Map();
    for (const [percentile, us] of (part && part.spectrum) || []) {
      if (percentile < 100 && us > 0) points.set(1 / (1 - percentile / 100), us);
    }
    if (!points.size) return [];
    const last = Math.max(...points.keys());
    for (const [key, percentile] of Object.entries(EXACT)) {
      const us = part.latency_us && part.latency_us[key], x = 1 / (1 - percentile / 100);
      if (us > 0 && x <= last * 1.001) points.set(x, us);
    }
    return [...points].sort((a, b) => a[0] - b[0]);
  };
  // The curve at x, straight between its points on both log axes; null where it has no support.
  const sample = (points, x) => {
    if (!points.length || x < points[0][0] * 0.9999 || x > points[points.length - 1][0] * 1.0001) return null;
    let next = points.findIndex((point) => point[0] >= x * 0.9999);
    if (next <= 0) return points[Math.max(next, 0)][1];
    const [x0, y0] = points[next - 1], [x1, y1] = points[next];
    const part = Math.min(1, (Math.log(x) - Math.log(x0)) / (Math.log(x1) - Math.log(x0)));
    return Math.exp(Math.log(y0) + part * (Math.log(y1) - Math.log(y0)));
  };
  const hiccups = (step) => {
    const points = [];
    for (const key of ["p50", "p99", "p999"]) {
      const us = median((step.runs || []).map((run) => run.hiccup_us && run.hiccup_us[key]));
      if (us > 0) points.push([1 / (1 - EXACT[key] / 100), us]);
    }
    return points;
  };

  const percentiles = (step) => {
    const curves = namesIn(step).map((name) => {
      const runs = runsOf(step, name).map(curve).filter((points) => points.length);
      const merged = curve(step.merged && step.merged[name]);
      return { name, runs, line: merged.length ? merged : runs.length === 1 ? runs[0] : [] };
    }).filter((one) => one.line.length || one.runs.length);
    const ends = curves.flatMap((one) => [one.line, ...one.runs]).filter((points) => points.length)
      .map((points) => points[points.length - 1][0]);
    const last = Math.max(...ends), noise = hiccups(step).filter((point) => point[0] <= last);
    const grid = new Set([2, 4, ...ends]);
    for (let k = 0; k <= 40 * Math.log10(last); ++k) grid.add(10 ** (k / 40));
    const x = [...grid].sort((a, b) => a - b);
    const lines = curves.map((one) => {
      const sampled = one.runs.map((points) => x.map((at) => sample(points, at)));
      const edge = (pick) => x.map((_, i) => {
        const values = sampled.map((values) => values[i]).filter((value) => value != null);
        return values.length === sampled.length && values.length > 1 ? pick(...values) : null;
      });
      return {
        name: one.name, data: x.map((at) => sample(one.line, at)), low: edge(Math.min), high: edge(Math.max),
        read: (i, data) => [latency(data[i]), range(sampled.map((values) => values[i]), latency)],
      };
    });
    if (noise.length > 1) {
      const data = x.map((at) => sample(noise, at));
      lines.push({ name: "noise floor", noise: true, data, read: (i) => [latency(data[i]), "hiccups of the machine itself"] });
    }
    return {
      x, lines, xLog: true, yLog: true, xTicks: [2, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7], xTick: percent, yTick: latencyTick,
      xRange: [1, last * 1.15], start: x.findIndex((at) => at >= 99.99), head: (i) => "at " + percent(x[i]), limit: step.knee && step.knee.limit_us,
    };
  };

  // Each ladder has rates of its own: rungs within 4 % of each other are one point of the line.
  const RUNG_WIDTH = 1.04;
  const rungGroups = (rungs) => {
    const groups = [];
    for (const rung of rungs.filter((rung) => rung.rate > 0 && rung.p99 > 0).sort((a, b) => a.rate - b.rate)) {
      const group = groups[groups.length - 1];
      if (group && rung.rate <= group[0].rate * RUNG_WIDTH) group.push(rung);
      else groups.push([rung]);
    }
    return new Map(groups.map((group) => [median(group.map((rung) => rung.rate)), group]));
  };
  const knee = (step) => {
    const entries = Object.entries(step.knee).filter(([, rungs]) => Array.isArray(rungs))
      .map(([name, rungs]) => [name, rungGroups(rungs)]).filter(([, groups]) => groups.size);
    const x = [...new Set(entries.flatMap(([, groups]) => [...groups.keys()]))].sort((a, b) => a - b);
    const lines = entries.map(([name, groups]) => {
      const at = x.map((one) => groups.get(one) || []);
      return {
        name, data: at.map((group) => median(group.map((rung) => rung.p99))), gaps: true,
        points: at.flat().map((rung) => ({ x: rung.rate, y: rung.p99, hollow: rung.held === false })),
        whole: [rate(median((step.knee.highest && step.knee.highest[name]) || [])), range((step.knee.highest && step.knee.highest[name]) || [], rate)],
        read: (i, data) => {
          const group = at[i];
          if (!group.length) return ["", ""];
          const failed = group.filter((rung) => rung.held === false).length;
          const spread = range(group.map((rung) => rung.p99), latency);
          return ["p99 " + latency(data[i]),
            [spread, "answered " + rate(median(group.map((rung) => rung.ok_per_s))), failed ? "✕ " + failed + " of " + group.length + " not held" : ""]
              .filter(Boolean).join(", ")];
        },
      };
    });
    return { x, lines, yLog: true, xTick: rateTick, yTick: latencyTick, xName: "requests per second, offered", fromZero: true,
      head: (i) => "at " + rate(x[i]), wholeHead: "highest load held", limit: step.knee.limit_us };
  };

  // Per-second series of several runs on one time axis; pick takes the figure out of a row.
  const over = (runs, rows, pick) => {
    const tables = runs.map((run) => new Map((rows(run) || []).map((row) => [Array.isArray(row) ? row[0] : row.t, pick(row)])));
    return (x) => tables.map((table) => x.map((t) => (table.has(t) ? table.get(t) : null)));
  };
  const seconds = (runs, rows) => [...new Set(runs.flatMap((run) => (rows(run) || []).map((row) => (Array.isArray(row) ? row[0] : row.t))))]
    .sort((a, b) => a - b);
  const seriesOf = (run) => run.series;
  const memoryOf = (run) => run.memory && run.memory.resident_bytes;
  const wholeOf = (tables, write) => ["median " + write(median(tables.flat())), range(tables.flat(), write)];
  const timeAxis = { wholeHead: "over the whole time", xTick: moment, xTicksAt: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600] };

  const latencyTime = (step, name) => {
    const runs = runsOf(step, name).filter(seriesOf), x = seconds(runs, seriesOf);
    const lines = [["p50", 2], ["p99", 2], ["max", 1]].flatMap(([key, width], style) =>
      over(runs, seriesOf, (row) => row[key] || null)(x).map((data, run, all) => ({
        name, label: key, dash: [[], [6, 3], [1, 2]][style], width, data, follows: run > 0, alpha: style === 2 ? 0.75 : 1, whole: wholeOf(all, latency),
        read: (i) => [all.length > 1 ? range(all.map((values) => values[i]), latency) || latency(data[i]) : latency(data[i]), ""],
      })));
    const bad = x.filter((t) => runs.some((run) => run.series.some((row) => row.t === t && row.errors > 0)));
    const all = namesIn(step).flatMap((other) => runsOf(step, other)).flatMap((run) => run.series || [])
      .flatMap((row) => [row.p50, row.max]).filter((us) => us > 0);
    return { x, lines, yLog: true, ...timeAxis, yTick: latencyTick, bad, head: (i) => "after " + moment(x[i]),
      yRange: all.length ? [all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b))] : null };
  };

  const perContender = (step, rows, pick, write, yTick) => {
    const x = seconds(step.runs || [], rows);
    const lines = namesIn(step).flatMap((name) => {
      const runs = runsOf(step, name).filter(rows);
      return over(runs, rows, pick)(x).map((data, run, all) => ({
        name, data, width: 1.8, follows: run > 0, gaps: true, whole: wholeOf(all, write),
        read: (i) => [all.length > 1 ? range(all.map((values) => values[i]), write) || write(data[i]) : write(data[i]), ""],
      }));
    });
    return { x, lines, ...timeAxis, yTick, fromZero: true, head: (i) => "after " + moment(x[i]) };
  };
  const answersTime = (step) => {
    const model = perContender(step, seriesOf, (row) => row.answers, rate, rateTick);
    const errors = new Map();
    for (const run of (step.runs || []).filter(seriesOf)) {
      for (const row of run.series.filter((row) => row.errors > 0)) {
        errors.set(run.contender + " " + row.t, (errors.get(run.contender + " " + row.t) || 0) + row.errors);
        const line = model.lines.find((line) => line.name === run.contender && line.data[model.x.indexOf(row.t)] === row.answers);
        if (line) (line.crosses = line.crosses || []).push({ x: row.t, y: row.answers });
      }
    }
    for (const line of model.lines) {
      const read = line.read;
      line.read = (i) => {
        const count = errors.get(line.name + " " + model.x[i]);
        return [read(i)[0], count ? "✕ " + grouped(count) + " errors" : ""];
      };
    }
    return model;
  };
  const memoryTime = (step) => ({
    ...perContender(step, memoryOf, (row) => row[1], size, sizeTick), ySize: true,
    limit: step.plan && step.plan.memory_bytes, limitName: "--memory " + size(step.plan && step.plan.memory_bytes),
  });

  const BUILDERS = {
    percentiles, knee, "latency-time": latencyTime, "answers-time": answersTime, "memory-time": memoryTime,
  };

  // --- drawing ---

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const FONT = "12px " + css("--sans"), BOLD = "600 12px " + css("--sans");
  const colourOf = (line) => (line.noise ? css("--noise") : css("--c" + slots[line.name]));
  const dashOf = (line) => {
    if (line.dash) return line.dash;
    if (line.noise) return [1, 2];
    const dash = css("--dash" + slots[line.name]);
    return dash === "none" ? [] : dash.split(" ").map(Number);
  };
  const drawn = (model) => model.lines.flatMap((line) => [line.data, line.low || [], line.high || [], (line.points || []).map((p) => p.y)])
    .flat().filter((value) => value != null && value > 0);

  // From the 1, 2 or 5 below the lowest figure to the one above the highest.
  const logRange = (values, limit) => {
    const round = (value, up) => {
      const power = 10 ** Math.floor(Math.log10(value));
      const steps = [1, 2, 5, 10].map((step) => step * power);
      return up ? steps.find((step) => step >= value * 0.999) : steps.reverse().find((step) => step <= value * 1.001);
    };
    const all = limit ? [...values, limit] : values;
    const low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b));
    return [round(low, false), Math.max(round(high, true), round(low, false) * 10)];
  };
  const logTicks = ([low, high]) => {
    const decades = Math.log10(high / low), steps = decades > 3.2 ? [1] : [1, 2, 5], ticks = [];
    for (let power = 10 ** Math.floor(Math.log10(low) + 1e-9); power <= high; power *= 10) {
      for (const step of steps) if (step * power >= low * 0.999 && step * power <= high * 1.001) ticks.push(step * power);
    }
    return ticks.map((tick) => Number(tick.toPrecision(6)));
  };
  const roundStep = (span, most, unit = 1) => {
    const rough = span / most / unit, power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= rough * 0.999) * unit;
  };
  const linearTicks = (low, high, step) => {
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high * 1.0001; ++k) ticks.push(Number((k * step).toPrecision(10)));
    return ticks;
  };

  const xScale = (model, width) => {
    const first = model.x[0], last = model.x[model.x.length - 1];
    if (model.xRange) return { range: model.xRange, ticks: model.xTicks.filter((tick) => tick <= model.xRange[1]) };
    const scaleEnd = model.fromZero && !model.xTicksAt ? last * 1.04 : last;
    const low = model.fromZero && !model.xTicksAt ? 0 : first, high = scaleEnd > low ? scaleEnd : low + 1;
    const most = Math.max(3, Math.floor(width / 60)), span = high - low;
    const step = model.xTicksAt ? model.xTicksAt.find((one) => span / one <= most) || roundStep(span, most) : roundStep(span, most);
    return { range: [low, high], ticks: linearTicks(low, high, step) };
  };
  const yScale = (model) => {
    const values = model.yRange || drawn(model), some = values.length ? values : [1, 10];
    if (model.yLog) {
      const range = logRange(some, model.limit);
      return { range, ticks: logTicks(range) };
    }
    const top = Math.max(some.reduce((a, b) => Math.max(a, b)), model.limit || 0) * 1.06;
    const unit = model.ySize ? 1024 ** Math.floor(Math.log(top) / Math.log(1024)) : 1;
    return { range: [0, top], ticks: linearTicks(0, top, roundStep(top, 5, unit)) };
  };

  const withContext = (u, draw) => {
    u.ctx.save();
    const ratio = devicePixelRatio;
    u.ctx.scale(ratio, ratio);
    draw(u.ctx, (value, scale) => u.valToPos(value, scale, true) / ratio,
      { left: u.bbox.left / ratio, top: u.bbox.top / ratio, width: u.bbox.width / ratio, height: u.bbox.height / ratio });
    u.ctx.restore();
  };
  const shape = (ctx, slot, x, y) => {
    ctx.beginPath();
    if (slot % 4 === 0) ctx.arc(x, y, 3.8, 0, 7);
    if (slot % 4 === 1) ctx.rect(x - 3.4, y - 3.4, 6.8, 6.8);
    const corners = slot % 4 === 2 ? [[0, -4.6], [4.4, 3.4], [-4.4, 3.4]] : slot % 4 === 3 ? [[0, -4.8], [4.8, 0], [0, 4.8], [-4.8, 0]] : [];
    corners.forEach(([dx, dy], i) => (i ? ctx.lineTo(x + dx, y + dy) : ctx.moveTo(x + dx, y + dy)));
    if (corners.length) ctx.closePath();
  };

  const drawMarks = (model) => (u) => withContext(u, (ctx, pos, box) => {
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
      for (const cross of line.crosses || []) drawCross(ctx, pos(cross.x, "x"), pos(cross.y, "y"), 2.5);
    }
    ctx.strokeStyle = css("--bad");
    ctx.lineWidth = 1.5;
    for (const t of model.bad || []) drawCross(ctx, pos(t, "x"), box.top + 5, 2.5);
    if (model.limit) drawLimit(ctx, pos(model.limit, "y"), box, model.limitName || "limit " + latencyTick(model.limit));
  });
  const drawCross = (ctx, x, y, reach) => {
    ctx.beginPath();
    ctx.moveTo(x - reach, y - reach); ctx.lineTo(x + reach, y + reach);
    ctx.moveTo(x - reach, y + reach); ctx.lineTo(x + reach, y - reach);
    ctx.stroke();
  };
  const drawLimit = (ctx, y, box, name) => {
    ctx.setLineDash([5, 3]);
    ctx.beginPath();
    ctx.moveTo(box.left, y); ctx.lineTo(box.left + box.width, y);
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
  const drawNames = (model) => (u) => withContext(u, (ctx, pos, box) => {
    ctx.setLineDash([]);
    const labels = model.lines.filter(isNamed).map((line) => {
      let last = line.data.length - 1;
      while (last >= 0 && line.data[last] == null) --last;
      return last < 0 ? null : { text: nameOf(line), x: pos(model.x[last], "x") + 7, y: pos(line.data[last], "y"), colour: colourOf(line) };
    }).filter(Boolean).sort((a, b) => a.y - b.y);
    const floor = box.top + box.height - 6, width = nameWidth(model);
    labels.forEach((label, i) => {
      const above = labels.slice(0, i).filter((other) => Math.abs(other.x - label.x) < width && label.y < other.y + 15);
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
    return 14 + model.lines.filter(isNamed).reduce((most, line) => Math.max(most, ctx.measureText(nameOf(line)).width), 0);
  };

  const axes = (model, x, y) => {
    const style = () => ({ font: FONT, stroke: css("--muted"), grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false } });
    return [
      { ...style(), space: 0, splits: () => x.ticks, filter: (u, ticks) => ticks, values: (u, ticks) => ticks.map((tick) => model.xTick(tick)),
        size: model.xName ? 26 : 28, gap: 6, label: model.xName, labelSize: 18, labelGap: 2, labelFont: FONT },
      { ...style(), space: 0, splits: () => y.ticks, filter: (u, ticks) => ticks, values: (u, ticks) => ticks.map((tick) => model.yTick(tick)), size: 64, gap: 6 },
    ];
  };

  const faded = (colour, part) => colour + Math.round(255 * part).toString(16).padStart(2, "0");
  const seriesFor = (model) => {
    const series = [{}], data = [model.x], bands = [];
    for (const line of model.lines) {
      const colour = colourOf(line);
      if (line.high) {
        bands.push({ series: [data.length, data.length + 1], fill: faded(colour, 0.18) });
        for (const edge of [line.high, line.low]) {
          series.push({ pxAlign: 0, stroke: faded(colour, 0.3), width: 0.5, points: { show: false } });
          data.push(edge);
        }
      }
      series.push({ pxAlign: 0, stroke: faded(colour, line.alpha || 1), width: line.width || (line.noise ? 1.5 : 2.2), dash: dashOf(line), spanGaps: !!line.gaps, points: { show: false } });
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
        const width = this.plot.clientWidth, printing = "printing" in document.documentElement.dataset;
        if (width && width !== this.width && !printing) this.draw(width);
      }).observe(this.plot);
    }

    draw(width) {
      if (this.u) this.u.destroy();
      this.width = width;
      const model = this.model, named = width >= 460;
      const { series, data, bands } = seriesFor(model), height = width >= 700 ? 360 : 300;
      const y = yScale(model), right = named ? nameWidth(model) : 28, x = xScale(model, width - 64 - right);
      const scale = (one, log) => ({ time: false, range: one.range, ...(log ? { distr: 3, log: 10 } : {}) });
      this.u = new uPlot({
        width, height, legend: { show: false }, padding: [10, right, 0, 0], bands, series,
        scales: { x: scale(x, model.xLog), y: scale(y, model.yLog) }, axes: axes(model, x, y),
        cursor: { drag: { x: false, y: false, setScale: false }, points: { size: 6 }, y: false },
        hooks: { draw: [drawMarks(model), ...(named ? [drawNames(model)] : [])], setCursor: [() => this.read()] },
      }, data, this.plot);
      this.read();
    }

    // The legend: what each line is at the cursor, or at the chart's starting point.
    read() {
      const at = this.u && this.u.cursor.left >= 0 ? this.u.cursor.idx : null;
      const i = at ?? this.start, model = this.model;
      const rows = model.lines.filter((line) => !line.follows).map((line) => {
        const [value, more] = i == null ? line.whole || ["", ""] : line.read(i, line.data);
        return { line, value, more };
      });
      const table = document.createElement("table"), caption = document.createElement("p");
      caption.textContent = i == null ? model.wholeHead : model.head(i);
      for (const { line, value, more } of rows) {
        const row = table.insertRow();
        const who = row.insertCell(), name = document.createElement("span");
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
      const last = this.model.x.length - 1, now = this.u.cursor.left >= 0 ? this.u.cursor.idx : this.start ?? -1;
      const step = event.shiftKey ? 10 : 1;
      const to = { ArrowLeft: Math.max(0, now - step), ArrowRight: Math.min(last, now + step), Home: 0, End: last }[event.key];
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
    for (const [key, value] of Object.entries({ x1: 0, x2: 30, y1: 6, y2: 6 })) stroke.setAttribute(key, value);
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
