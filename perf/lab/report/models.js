// What the report's charts show: figures as people read them, and one model per kind of chart,
// built from a step of a result: {x, lines: [{name, data, read, …}], …}. charts.js draws any model.
"use strict";
const models = (() => {
  // --- figures as people read them, by the rules of report_text.py ---

  const THIN = "\u202f";
  const grouped = (number) => {
    const digits = number.toFixed(0);
    return Math.abs(number) < 10000 ? digits : digits.replace(/\B(?=(\d{3})+$)/g, THIN);
  };
  const significant = (number, digits = 3) => {
    if (number === 0) return "0";
    const decimals =
      digits - 1 - Math.floor(Math.log10(Math.abs(Number(number.toPrecision(digits)))));
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
    return (
      grouped(Math.floor(value)) +
      (value % 1 ? String(Number((value % 1).toPrecision(3))).slice(1) : "") +
      THIN +
      unit
    );
  };
  const TIME = ["ns", "µs", "ms", "s"],
    SIZE = ["B", "KiB", "MiB", "GiB", "TiB"];
  const inNs = (write) => (us) => write(us == null ? null : us * 1000);
  const latency = inNs(writer(TIME, 1000)),
    latencyTick = inNs(tickWriter(TIME, 1000));
  const size = writer(SIZE, 1024),
    sizeTick = tickWriter(SIZE, 1024);
  const rate = (number) => (number == null ? "–" : significant(number, 4) + "/s");
  const rateTick = (number) =>
    number < 10000 ? grouped(number) : grouped(number / 1000) + THIN + "k";
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
    return (
      (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2
    );
  };

  // --- builders: one step of a result in, what to draw out ---

  const runsOf = (step, name) => (step.runs || []).filter((run) => run.contender === name);
  const namesIn = (step) =>
    [
      ...new Set([
        ...(step.runs || []).map((run) => run.contender),
        ...Object.keys(step.merged || {}),
      ]),
    ].filter((name) => name != null);
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
      const us = part.latency_us && part.latency_us[key],
        x = 1 / (1 - percentile / 100);
      if (us > 0 && x <= last * 1.001) points.set(x, us);
    }
    return [...points].sort((a, b) => a[0] - b[0]);
  };
  // The curve at x, straight between its points on both log axes; null where it has no support.
  const sample = (points, x) => {
    if (!points.length || x < points[0][0] * 0.9999 || x > points[points.length - 1][0] * 1.0001)
      return null;
    let next = points.findIndex((point) => point[0] >= x * 0.9999);
    if (next <= 0) return points[Math.max(next, 0)][1];
    const [x0, y0] = points[next - 1],
      [x1, y1] = points[next];
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
    const curves = namesIn(step)
      .map((name) => {
        const runs = runsOf(step, name)
          .map(curve)
          .filter((points) => points.length);
        const merged = curve(step.merged && step.merged[name]);
        return { name, runs, line: merged.length ? merged : runs.length === 1 ? runs[0] : [] };
      })
      .filter((one) => one.line.length || one.runs.length);
    const ends = curves
      .flatMap((one) => [one.line, ...one.runs])
      .filter((points) => points.length)
      .map((points) => points[points.length - 1][0]);
    const last = Math.max(...ends),
      noise = hiccups(step).filter((point) => point[0] <= last);
    const grid = new Set([2, 4, ...ends]);
    for (let k = 0; k <= 40 * Math.log10(last); ++k) grid.add(10 ** (k / 40));
    const x = [...grid].sort((a, b) => a - b);
    const lines = curves.map((one) => {
      const sampled = one.runs.map((points) => x.map((at) => sample(points, at)));
      const edge = (pick) =>
        x.map((_, i) => {
          const values = sampled.map((values) => values[i]).filter((value) => value != null);
          return values.length === sampled.length && values.length > 1 ? pick(...values) : null;
        });
      return {
        name: one.name,
        data: x.map((at) => sample(one.line, at)),
        low: edge(Math.min),
        high: edge(Math.max),
        read: (i, data) => [
          latency(data[i]),
          range(
            sampled.map((values) => values[i]),
            latency,
          ),
        ],
      };
    });
    if (noise.length > 1) {
      const data = x.map((at) => sample(noise, at));
      lines.push({
        name: "noise floor",
        noise: true,
        data,
        read: (i) => [latency(data[i]), "hiccups of the machine itself"],
      });
    }
    return {
      x,
      lines,
      xLog: true,
      yLog: true,
      xTicks: [2, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7],
      xTick: percent,
      yTick: latencyTick,
      xRange: [1, last * 1.15],
      start: x.findIndex((at) => at >= 99.99),
      head: (i) => "at " + percent(x[i]),
      limit: step.knee && step.knee.limit_us,
    };
  };

  // Each ladder has rates of its own: rungs within 4 % of each other are one point of the line.
  const RUNG_WIDTH = 1.04;
  const rungGroups = (rungs) => {
    const groups = [];
    for (const rung of rungs
      .filter((rung) => rung.rate > 0 && rung.p99 > 0)
      .sort((a, b) => a.rate - b.rate)) {
      const group = groups[groups.length - 1];
      if (group && rung.rate <= group[0].rate * RUNG_WIDTH) group.push(rung);
      else groups.push([rung]);
    }
    return new Map(groups.map((group) => [median(group.map((rung) => rung.rate)), group]));
  };
  const knee = (step) => {
    const entries = Object.entries(step.knee)
      .filter(([, rungs]) => Array.isArray(rungs))
      .map(([name, rungs]) => [name, rungGroups(rungs)])
      .filter(([, groups]) => groups.size);
    const x = [...new Set(entries.flatMap(([, groups]) => [...groups.keys()]))].sort(
      (a, b) => a - b,
    );
    const lines = entries.map(([name, groups]) => {
      const at = x.map((one) => groups.get(one) || []);
      return {
        name,
        data: at.map((group) => median(group.map((rung) => rung.p99))),
        gaps: true,
        points: at
          .flat()
          .map((rung) => ({ x: rung.rate, y: rung.p99, hollow: rung.held === false })),
        whole: [
          rate(median((step.knee.highest && step.knee.highest[name]) || [])),
          range((step.knee.highest && step.knee.highest[name]) || [], rate),
        ],
        read: (i, data) => {
          const group = at[i];
          if (!group.length) return ["", ""];
          const failed = group.filter((rung) => rung.held === false).length;
          const spread = range(
            group.map((rung) => rung.p99),
            latency,
          );
          return [
            "p99 " + latency(data[i]),
            [
              spread,
              "answered " + rate(median(group.map((rung) => rung.ok_per_s))),
              failed ? "✕ " + failed + " of " + group.length + " not held" : "",
            ]
              .filter(Boolean)
              .join(", "),
          ];
        },
      };
    });
    return {
      x,
      lines,
      yLog: true,
      xTick: rateTick,
      yTick: latencyTick,
      xName: "requests per second, offered",
      fromZero: true,
      head: (i) => "at " + rate(x[i]),
      wholeHead: "highest load held",
      limit: step.knee.limit_us,
    };
  };

  // Per-second series of several runs on one time axis; pick takes the figure out of a row.
  const over = (runs, rows, pick) => {
    const tables = runs.map(
      (run) =>
        new Map((rows(run) || []).map((row) => [Array.isArray(row) ? row[0] : row.t, pick(row)])),
    );
    return (x) => tables.map((table) => x.map((t) => (table.has(t) ? table.get(t) : null)));
  };
  const seconds = (runs, rows) =>
    [
      ...new Set(
        runs.flatMap((run) =>
          (rows(run) || []).map((row) => (Array.isArray(row) ? row[0] : row.t)),
        ),
      ),
    ].sort((a, b) => a - b);
  const seriesOf = (run) => run.series;
  const memoryOf = (run) => run.memory && run.memory.resident_bytes;
  const wholeOf = (tables, write) => [
    "median " + write(median(tables.flat())),
    range(tables.flat(), write),
  ];
  const timeAxis = {
    wholeHead: "over the whole time",
    xTick: moment,
    xTicksAt: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600],
  };

  const latencyTime = (step, name) => {
    const runs = runsOf(step, name).filter(seriesOf),
      x = seconds(runs, seriesOf);
    const lines = [
      ["p50", 2],
      ["p99", 2],
      ["max", 1],
    ].flatMap(([key, width], style) =>
      over(
        runs,
        seriesOf,
        (row) => row[key] || null,
      )(x).map((data, run, all) => ({
        name,
        label: key,
        dash: [[], [6, 3], [1, 2]][style],
        width,
        data,
        follows: run > 0,
        alpha: style === 2 ? 0.75 : 1,
        whole: wholeOf(all, latency),
        read: (i) => [
          all.length > 1
            ? range(
                all.map((values) => values[i]),
                latency,
              ) || latency(data[i])
            : latency(data[i]),
          "",
        ],
      })),
    );
    const bad = x.filter((t) =>
      runs.some((run) => run.series.some((row) => row.t === t && row.errors > 0)),
    );
    const all = namesIn(step)
      .flatMap((other) => runsOf(step, other))
      .flatMap((run) => run.series || [])
      .flatMap((row) => [row.p50, row.max])
      .filter((us) => us > 0);
    return {
      x,
      lines,
      yLog: true,
      ...timeAxis,
      yTick: latencyTick,
      bad,
      head: (i) => "after " + moment(x[i]),
      yRange: all.length
        ? [all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b))]
        : null,
    };
  };

  const perContender = (step, rows, pick, write, yTick) => {
    const x = seconds(step.runs || [], rows);
    const lines = namesIn(step).flatMap((name) => {
      const runs = runsOf(step, name).filter(rows);
      return over(
        runs,
        rows,
        pick,
      )(x).map((data, run, all) => ({
        name,
        data,
        width: 1.8,
        follows: run > 0,
        gaps: true,
        whole: wholeOf(all, write),
        read: (i) => [
          all.length > 1
            ? range(
                all.map((values) => values[i]),
                write,
              ) || write(data[i])
            : write(data[i]),
          "",
        ],
      }));
    });
    return { x, lines, ...timeAxis, yTick, fromZero: true, head: (i) => "after " + moment(x[i]) };
  };
  const answersTime = (step) => {
    const model = perContender(step, seriesOf, (row) => row.answers, rate, rateTick);
    const errors = new Map();
    for (const run of (step.runs || []).filter(seriesOf)) {
      for (const row of run.series.filter((row) => row.errors > 0)) {
        errors.set(
          run.contender + " " + row.t,
          (errors.get(run.contender + " " + row.t) || 0) + row.errors,
        );
        const line = model.lines.find(
          (line) =>
            line.name === run.contender && line.data[model.x.indexOf(row.t)] === row.answers,
        );
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
  // The disk's line has no contender's colour: it is the noise that all of them stand on.
  const stallsTime = (step) => {
    const watched = { ...step, runs: (step.runs || []).filter((run) => run.beside && run.series) };
    const model = perContender(
      watched,
      seriesOf,
      (row) => row.service_max || null,
      latency,
      latencyTick,
    );
    for (const name of namesIn(watched)) {
      const runs = runsOf(watched, name);
      for (const data of over(runs, seriesOf, (row) => row.disk_max || null)(model.x)) {
        model.lines.push({
          name: "disk beside " + name,
          noise: true,
          data,
          gaps: true,
          whole: wholeOf([data], latency),
          read: (i) => [latency(data[i]), ""],
        });
      }
    }
    return { ...model, yLog: true };
  };
  const memoryTime = (step) => ({
    ...perContender(step, memoryOf, (row) => row[1], size, sizeTick),
    ySize: true,
    limit: step.plan && step.plan.memory_bytes,
    limitName: "--memory " + size(step.plan && step.plan.memory_bytes),
  });

  const BUILDERS = {
    percentiles,
    knee,
    "latency-time": latencyTime,
    "stalls-time": stallsTime,
    "answers-time": answersTime,
    "memory-time": memoryTime,
  };

  return { BUILDERS, latencyTick };
})();
