// Opens reports in a headless browser and looks: lines drawn in their colours, labels that neither
// meet nor leave the canvas, no request, no error, readable at 420 px, in the dark and on paper.
// Started by report_browser_test.py, which makes the reports.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

const { REPORTS, PACKAGES, CHROMIUM, GAPS } = process.env;
const { chromium } = createRequire(PACKAGES + "/")("playwright-core");
const WIDE = { width: 1280, height: 900 },
  NARROW = { width: 420, height: 900 };

let browser;
before(async () => {
  const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
  browser = await chromium.launch({ executablePath: CHROMIUM, args });
});
after(() => browser.close());

// Notes where each text stands on its canvas; a new drawing of the canvas begins with clearRect.
const noteLabels = () => {
  const context = CanvasRenderingContext2D.prototype;
  const { fillText, clearRect } = context;
  context.clearRect = function (...box) {
    this.canvas.labels = [];
    return clearRect.apply(this, box);
  };
  context.fillText = function (text, x, y, ...rest) {
    const size = this.measureText(text),
      turn = this.getTransform();
    const [a, b] = [
      [x - size.actualBoundingBoxLeft, y - size.actualBoundingBoxAscent],
      [x + size.actualBoundingBoxRight, y + size.actualBoundingBoxDescent],
    ].map(([x, y]) => turn.transformPoint(new DOMPoint(x, y)));
    (this.canvas.labels ??= []).push({
      text,
      left: Math.min(a.x, b.x),
      right: Math.max(a.x, b.x),
      top: Math.min(a.y, b.y),
      bottom: Math.max(a.y, b.y),
    });
    return fillText.call(this, text, x, y, ...rest);
  };
};

// Opens a report and runs look(page); fails on any error in the console and on any request.
const open = async (name, { viewport = WIDE, colorScheme = "light", scale = 2 } = {}, look) => {
  const page = await browser.newPage({ viewport, colorScheme, deviceScaleFactor: scale });
  const errors = [],
    requests = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(error.stack));
  page.on("request", (request) => requests.push(request.url()));
  await page.addInitScript(noteLabels);
  const url = "file://" + REPORTS + "/" + name + ".html";
  await page.goto(url);
  await look(page);
  assert.deepEqual(errors, []);
  assert.deepEqual(requests, [url]);
  await page.close();
};

// Of each chart: its kind, its labels, and how many pixels inside its axes have each line's colour.
const charts = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll("figure.chart")].map((figure) => {
      const canvas = figure.querySelector("canvas"),
        over = figure.querySelector(".u-over");
      const style = getComputedStyle(document.documentElement);
      const whole = canvas.getBoundingClientRect(),
        inner = over.getBoundingClientRect(),
        ratio = canvas.width / whole.width;
      const pixels = canvas
        .getContext("2d", { willReadFrequently: true })
        .getImageData(
          (inner.left - whole.left) * ratio,
          (inner.top - whole.top) * ratio,
          inner.width * ratio,
          inner.height * ratio,
        ).data;
      const count = (colour) => {
        const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
        let found = 0;
        for (let i = 0; i < pixels.length; i += 4) {
          if (
            Math.abs(pixels[i] - r) + Math.abs(pixels[i + 1] - g) + Math.abs(pixels[i + 2] - b) <
              24 &&
            pixels[i + 3] > 200
          )
            ++found;
        }
        return found;
      };
      const lines = [...figure.querySelectorAll(".legend .swatch:not(.noise)")].map((swatch) => {
        const slot = [...swatch.classList].find((name) => /^c\d$/.test(name));
        return {
          name: swatch.parentElement.textContent,
          pixels: count(style.getPropertyValue("--" + slot).trim()),
        };
      });
      return {
        kind: figure.dataset.chart,
        width: canvas.width,
        height: canvas.height,
        labels: canvas.labels || [],
        lines,
        noise: [...figure.querySelectorAll(".legend .swatch.noise")].map(() =>
          count(style.getPropertyValue("--noise").trim()),
        ),
        limit: count(style.getPropertyValue("--bad").trim()),
      };
    }),
  );

const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
const checkLabels = ({ kind, labels, width, height }) => {
  const texts = labels.map((label) => label.text).join("  ");
  const wanted = {
    percentiles: [/50\s%/, /99\s%/, /\d\s[µm]s/],
    knee: [/\d\s?k/, /\d\sms/, /requests per second/],
    "latency-time": [/\d\s(s|min)\b/, /\d\s[µm]s/],
    "stalls-time": [/\d\s(s|min)\b/, /\d\sms/],
    "answers-time": [/\d\s(s|min)\b/, /\d\s?k/],
    "memory-time": [/\d\s(s|min)\b/, /\d\sMiB/],
  }[kind];
  for (const pattern of wanted) assert.match(texts, pattern, kind);
  for (const [i, label] of labels.entries()) {
    const inside =
      label.left >= -1 && label.right <= width + 1 && label.top >= -1 && label.bottom <= height + 1;
    assert.ok(
      inside,
      `${kind}: "${label.text}" leaves ${width} x ${height}: ${JSON.stringify(label)}`,
    );
    for (const other of labels.slice(i + 1)) {
      assert.ok(!meet(label, other), `${kind}: "${label.text}" and "${other.text}" overlap`);
    }
  }
};

const noSidewaysScroll = async (page) => {
  const [content, window_] = await page.evaluate(() => [
    document.documentElement.scrollWidth,
    innerWidth,
  ]);
  assert.ok(content <= window_, `the page is ${content} px wide in a window of ${window_}`);
};

for (const [look, options] of Object.entries({
  wide: { viewport: WIDE },
  narrow: { viewport: NARROW },
  "wide in the dark": { viewport: WIDE, colorScheme: "dark" },
  "narrow in the dark": { viewport: NARROW, colorScheme: "dark" },
})) {
  test(`every line of the full report is drawn, ${look}`, () =>
    open("full", options, async (page) => {
      const found = await charts(page);
      assert.deepEqual(
        found.map((chart) => chart.kind),
        [
          "percentiles",
          "knee",
          "percentiles",
          "latency-time",
          "latency-time",
          "latency-time",
          "stalls-time",
          "answers-time",
          "memory-time",
        ],
      );
      for (const chart of found) {
        assert.equal(chart.lines.length, 3, chart.kind);
        for (const line of chart.lines)
          assert.ok(line.pixels > 150, `${chart.kind}: ${line.name} has ${line.pixels} pixels`);
        checkLabels(chart);
      }
      // The disk beside each of the three.
      assert.equal(found[6].noise.length, 3);
      for (const pixels of found[6].noise) assert.ok(pixels > 100, `the disk has ${pixels} pixels`);
      for (const index of [1, 4, 7, 8])
        assert.ok(found[index].limit > 40, `${found[index].kind}: no limit, no errors marked`);
      await noSidewaysScroll(page);
    }));
}

test("names stand at the ends of the lines where there is room, and only there", async () => {
  const named = (chart) =>
    chart.labels.filter(({ text }) => /^(gyre|threadpool|floor)$/.test(text)).length;
  await open("full", { viewport: WIDE }, async (page) =>
    assert.equal(named((await charts(page))[0]), 3),
  );
  await open("full", { viewport: NARROW }, async (page) =>
    assert.equal(named((await charts(page))[0]), 0),
  );
});

test("bars have the lengths of the figures", () =>
  open("full", {}, async (page) => {
    const widths = await page.$$eval("#s0-0 figure.bars >> nth=0 >> .bar", (rows) =>
      rows.map((row) =>
        [".user", ".kernel", ".system"].map(
          (part) => row.querySelector(part).getBoundingClientRect().width,
        ),
      ),
    );
    const [gyre, threadpool, floor] = widths;
    assert.ok(threadpool[0] > 6 * gyre[0] && gyre[0] > 5 * floor[0], `user: ${widths}`);
    assert.ok(threadpool[2] > 3 * gyre[2] && threadpool[2] < 4.5 * gyre[2], `system: ${widths}`);
    assert.ok(gyre[1] > 3 * gyre[0], `kernel: ${widths}`);
  }));

test("tables, verdict and facts can be read", () =>
  open("full", {}, async (page) => {
    const step = (await page.innerText("#s0-0")).replaceAll("\u202f", " ");
    for (const figure of [
      "gyre",
      "214 µs",
      "206–229 µs",
      "1.14 ms",
      "6.03 µs",
      "0.198×",
      "✓ met",
      "✕ missed",
    ]) {
      assert.ok(step.includes(figure), figure + " is not in the step");
    }
    const hidden = page.getByText("Synced 4 KiB overwrite");
    assert.equal(await hidden.isVisible(), false);
    await page.getByText("Machine, build, commands").click();
    assert.equal(await hidden.isVisible(), true);
    await page.getByText("Every figure of all 18 runs").click();
    assert.equal(await page.locator("#s0-0 details tbody tr:visible").count(), 18);
    await noSidewaysScroll(page);
  }));

test("mouse and arrow keys read figures off a chart", () =>
  open("full", {}, async (page) => {
    const figure = page.locator("figure.chart").first(),
      plot = figure.locator(".plot");
    const legend = async () =>
      (await figure.locator(".legend").innerText()).replaceAll("\u202f", " ");
    assert.match(await legend(), /at 99 %[^]*gyre\s+214 µs\s+206–229 µs/);
    await plot.locator(".u-over").hover({ position: { x: 20, y: 100 } });
    const hovered = await legend();
    assert.doesNotMatch(hovered, /at 99 %/);
    await page.mouse.move(2, 2);
    await plot.focus();
    await page.keyboard.press("Home");
    const [first] = (await legend()).split("\n");
    await page.keyboard.press("ArrowRight");
    const [second] = (await legend()).split("\n");
    assert.notEqual(first, second);
    await page.keyboard.press("End");
    assert.match(await legend(), /at 99\.99\d* %/);
    await page.keyboard.press("Escape");
    assert.match(await legend(), /at 99 %/);
  }));

test("colours follow the system while the page is open", () =>
  open("full", {}, async (page) => {
    const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await back();
    await page.emulateMedia({ colorScheme: "dark" });
    assert.notEqual(await back(), light);
    for (const line of (await charts(page))[0].lines)
      assert.ok(line.pixels > 150, `${line.name}: ${line.pixels} pixels`);
  }));

test("on paper it is light, unfolded and no wider than a sheet", () =>
  open("full", { colorScheme: "dark", scale: 1 }, async (page) => {
    const state = () =>
      page.evaluate(() => ({
        back: getComputedStyle(document.body).backgroundColor,
        widest: Math.max(...[...document.querySelectorAll("canvas")].map((c) => c.width)),
        facts: document.querySelector("details.facts").open,
      }));
    const before_ = await state();
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    const paper = await state();
    assert.deepEqual([paper.back, paper.facts], ["rgb(255, 255, 255)", true]);
    assert.ok(paper.widest <= 680, `a chart is ${paper.widest} px wide`);
    await page.evaluate(() => dispatchEvent(new Event("afterprint")));
    assert.equal((await state()).back, before_.back);
    assert.ok((await page.pdf({ format: "A4" })).length > 20000);
  }));

for (const viewport of [WIDE, NARROW]) {
  test(`hostile names and absent figures, ${viewport.width} px`, () =>
    open("minimal", { viewport }, async (page) => {
      assert.equal(await page.title(), "</title><script>alert(1)</script> – Gyre lab");
      const text = await page.innerText("body");
      for (const part of [
        "✕ Interrupted",
        '<script>document.title="broken"</script>',
        "Nothing of this step has run.",
      ]) {
        assert.ok(text.includes(part), part);
      }
      const [chart] = await charts(page);
      assert.ok(chart.lines[0].pixels > 150);
      checkLabels(chart);
      await noSidewaysScroll(page);
    }));
}

test("several scenarios in one file", () =>
  open("several", {}, async (page) => {
    assert.equal(await page.locator("section.scenario").count(), 2);
    assert.equal((await charts(page)).length, 10);
    await page.locator("nav a").nth(1).click();
    await page.waitForFunction(
      () => Math.abs(document.querySelector("#s1").getBoundingClientRect().top) < 400,
    );
  }));

test("every field that charts read may be absent", () =>
  open("gaps", { scale: 1 }, async (page) => {
    assert.ok(Number(GAPS) > 40);
    assert.equal(await page.locator("section.scenario").count(), Number(GAPS));
    assert.equal(await page.getByText("This chart could not be drawn").count(), 0);
  }));

test("the policy stops scripts and requests that are not the report's own", async () => {
  const page = await browser.newPage();
  const refused = [];
  page.on("console", (message) => refused.push(message.text()));
  await page.goto("file://" + REPORTS + "/full.html");
  const ran = await page.evaluate(async () => {
    const script = document.createElement("script");
    script.textContent = "window.intruder = true";
    document.body.append(script);
    const image = new Image();
    image.src = "http://127.0.0.1:9/x.png";
    const loaded = await fetch("http://127.0.0.1:9/").then(
      () => true,
      () => false,
    );
    return [window.intruder === true, loaded];
  });
  assert.deepEqual(ran, [false, false]);
  for (const directive of ["script-src", "img-src", "connect-src"]) {
    assert.ok(
      refused.some(
        (line) =>
          line.includes("Content Security Policy") &&
          line.includes(directive.replace("connect-src", "default-src")),
      ),
      directive + ": " + refused.join("\n"),
    );
  }
  await page.close();
});
