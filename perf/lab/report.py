"""The lab's report: results (gyre-lab/1) in, one HTML file out that asks nobody for anything.

Style, charts, library and figures are all inside the file, and its Content-Security-Policy allows
only what is inside by its hash. The tables stand in the HTML, so the report reads without scripts;
charts.js draws the charts from the results, which the page carries whole.
"""

import base64
import hashlib
import json
import os
import re
from pathlib import Path

import report_page
from report_text import escape

SCHEMA = "gyre-lab/1"
ROOT = Path(__file__).resolve().parents[2]
PARTS = Path(__file__).resolve().parent / "report"
CHARTS_DIR = ROOT / "build/release/perf/lab"


class ReportError(Exception):
    """What keeps a report from being made, in words for the person who asked for it."""


def read_results(paths):
    """The results in these files, for write_html."""
    results = []
    for path in paths:
        try:
            result = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ReportError(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise ReportError(f"{path} is not JSON: {error}") from error
        schema = result.get("schema") if isinstance(result, dict) else None
        if schema != SCHEMA:
            raise ReportError(f"{path} is no result of the lab: schema {schema}, not {SCHEMA}")
        results.append(result)
    return results


def write_html(result, path, charts_dir=None):
    """Writes the report of one result or several; the file is there whole or not at all."""
    results = result if isinstance(result, list) else [result]
    html = render(results, read_library(charts_dir or CHARTS_DIR))
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(html, encoding="utf-8", newline="\n")
    os.replace(unfinished, path)


def read_library(charts_dir):
    """uPlot as the build directory has it: script, style, licence."""
    found = []
    for name in ("uPlot.iife.min.js", "uPlot.min.css", "uPlot.LICENSE"):
        try:
            found.append((Path(charts_dir) / name).read_text(encoding="utf-8"))
        except OSError as error:
            build_dir = Path(charts_dir).parent.parent
            if build_dir.is_relative_to(ROOT):
                build_dir = build_dir.relative_to(ROOT)
            raise ReportError(
                f"The chart library is not in {charts_dir}. To bring it there (npm, network): "
                f"ninja -C {build_dir} lab-charts"
            ) from error
    return found


def embedded(results, slots):
    """JSON that no HTML parser finds the end of its element in."""
    text = json.dumps({"results": results, "slots": slots}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def source_of_hash(text):
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def render(results, library):
    library_script, library_style, licence = (text.replace("\r\n", "\n") for text in library)
    style = library_style + "\n" + (PARTS / "style.css").read_text(encoding="utf-8")
    scripts = [library_script]
    scripts += [(PARTS / name).read_text(encoding="utf-8") for name in ("models.js", "charts.js")]
    for text, end in [(style, "</style"), *((script, "</script") for script in scripts)]:
        assert end not in text.lower(), f"{end} inside what it would end"
    policy = (
        f"default-src 'none'; script-src {' '.join(map(source_of_hash, scripts))}; "
        f"style-src {source_of_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    body, slots = report_page.page(results)
    titles = " · ".join(report_page.title_of(result) for result in results)
    filled = {
        "policy": policy, "title": escape(titles), "style": style, "body": body,
        "licence": escape(licence.strip()), "data": embedded(results, slots),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    template = (PARTS / "template.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], template)
