"""The report's HTML, without a browser: figures, escaping, absent values, what it is made of.

  report_test.py [unittest arguments]
"""

import base64
import copy
import hashlib
import json
import os
import re
import sys
import tempfile
import unittest
from html.parser import HTMLParser

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../../../perf/lab")]
sys.dont_write_bytecode = True

import report  # noqa: E402
import report_fixture  # noqa: E402
import report_page  # noqa: E402
import report_text as text  # noqa: E402

LIBRARY = ["/* library */", ".library {}", "MIT: <b>no markup</b>"]
THIN = text.THIN


class Elements(HTMLParser):
    """What a browser would make of it: elements with attributes, and the texts inside some."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.inside = [], {"script": [], "style": [], "": []}, ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self.inside = tag
            self.texts[tag].append("")

    def handle_endtag(self, tag):
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data):
        if self.inside:
            self.texts[self.inside][-1] += data
        else:
            self.texts[""].append(data)

    def count(self, tag):
        return sum(1 for name, _ in self.elements if name == tag)

    @property
    def words(self):
        return re.sub(r"\s+", " ", "".join(self.texts[""]).replace(THIN, " "))


def rendered(*results):
    return Elements(report.render(list(results), LIBRARY))


class Figures(unittest.TestCase):
    def test_latencies_have_three_digits_and_the_unit_that_fits(self):
        for us, expected in [
            (0, "0 ns"), (0.0994, "99.4 ns"), (0.9996, "1.00 µs"), (9.996, "10.0 µs"),
            (999.4, "999 µs"), (999.6, "1.00 ms"), (2640, "2.64 ms"), (20.7e6, "20.7 s"),
            (123.4e6, "123 s"), (None, "–"),
        ]:
            self.assertEqual(text.latency(us).replace(THIN, " "), expected)

    def test_sizes_rates_ratios_and_durations(self):
        for written, expected in [
            (text.size(1023), "1023 B"), (text.size(3.1e6), "2.96 MiB"),
            (text.rate(9984.4), "9984/s"), (text.rate(18237.4), "18 237/s"),
            (text.rate(92.1234), "92.12/s"), (text.ratio(0.4), "0.400×"),
            (text.duration(10), "10 s"), (text.duration(600), "10 min"),
            (text.duration(9000), "2 h 30 min"), (text.tick(5000, text.latency), "5 ms"),
            (text.tick(200e6, text.size), "191 MiB"), (text.tick(0, text.size), "0"),
            (text.tick(10, text.latency), "10 µs"), (text.tick(1500, text.latency), "1.5 ms"),
        ]:
            self.assertEqual(written.replace(THIN, " "), expected)

    def test_a_range_names_its_unit_once(self):
        for (low, high), expected in {
            (1100, 1400): "1.10–1.40 ms", (900, 1400): "900 µs–1.40 ms", (5, 5): "5.00 µs",
            (None, 5): "–",
        }.items():
            self.assertEqual(text.interval(low, high, text.latency).replace(THIN, " "), expected)


class Content(unittest.TestCase):
    def test_the_tables_have_the_figures_of_the_result(self):
        words = rendered(report_fixture.full()).words
        for expected in [
            "One node, PUT at 10,000/s and to the knee", "reproduces reports 001, 003",
            "118 µs", "214 µs", "1.14 ms",  # merged percentiles
            "✓ 4 met", "✕ 1 missed", "No wrong answer in 21 runs.",
            "p50 104 µs, p99 180 µs, p99.9 220 µs, max 410 µs",  # the disk
            "perf/lab/lab run single-put --pairs 6", "gyre-threadpool --workers 8",
            "Highest load with p99 ≤ 5 ms", "Every figure of all 18 runs", "9600",
            "Reads that reached the disk", "0.800", "6.80 KiB",
            "the bare disk, 64 at a time", "92 500/s",
            "Stalls, and reads meanwhile", "Seconds over 20 msabove the disk", "3 of 599", "11.2 ms",
            "Empty start", "41.2 ms", "38.1 MiB", "250 000",  # after kill -9
            "268 ms", "1.23 ms", "41.0 ms", "3.21 ms", "4321", "Longest request of each second",
        ]:
            self.assertIn(expected, words)

    def test_clusters_have_tables_of_their_hop_and_of_their_nodes(self):
        words = rendered(report_fixture.full()).words
        for text in ("50 % forwarded", "Share of a forwarded one", "In tables, per node", "Most ÷ mean", "1.09×"):
            self.assertIn(text, words)
        mixed = report_fixture.full()
        mixed["steps"][0]["plan"] |= {"nodes": 3, "replicas": "2/3", "fault": "killed"}
        self.assertIn("3 nodes", rendered(mixed).words)
        for text in ("replicas=2/3", "one node killed"):
            self.assertIn(text, rendered(mixed).words)
            self.assertNotIn(text, words)

    def test_without_findings_the_verdict_comes_from_the_ratios(self):
        result = report_fixture.full()
        result["findings"] = []
        words = rendered(result).words
        self.assertIn("✕ missed", words)
        self.assertIn("whole system of gyre is 1.4", words)
        self.assertIn("✓ 4 met", words)

    def test_findings_about_aims_are_marked_and_others_are_not(self):
        for line, expected in [
            ("met: p99 is low", '<b class="met">✓ met</b><span>p99 is low'),
            ("not met: p99", '<b class="missed">✕ missed</b><span>p99'),
            ("PUT: missed by 3 %", '<b class="missed">✕ missed</b><span>PUT: missed by 3 %'),
            ("the metal met nothing", '<b class="note">•</b><span>the metal met nothing'),
        ]:
            self.assertEqual(report_page.finding(line), expected + "</span>")

    def test_an_interrupted_result_says_so_with_the_reason(self):
        words = rendered(report_fixture.minimal()).words
        self.assertIn("✕ Interrupted: the server of <b>gyre</b> ended", words)
        self.assertIn("Nothing of this step has run.", words)
        self.assertNotIn("Interrupted", rendered(report_fixture.full()).words)

    def test_wrong_answers_and_a_limiting_generator_stand_out(self):
        words = rendered(report_fixture.minimal()).words
        self.assertIn("✕ 3", words)
        self.assertIn("✕ limited by the generator", words)

    def test_a_contender_has_the_same_line_in_every_scenario(self):
        first, second = report_fixture.full(), report_fixture.full()
        second["contenders"].reverse()
        second["steps"].reverse()
        slots = report_page.assign_slots([second, first])
        self.assertEqual([slots[name] for name in ("gyre", "threadpool", "floor")], [0, 1, 2])
        unknown = report_fixture.minimal()["contenders"][0]["name"]
        self.assertNotIn(report_page.assign_slots([report_fixture.minimal()])[unknown], [0, 1, 2])

    def test_several_scenarios_are_one_file_with_links(self):
        page = rendered(report_fixture.full(), report_fixture.minimal())
        targets = {attributes.get("id") for _, attributes in page.elements}
        links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
        self.assertGreater(len(links), 6)
        for link in links:
            self.assertIn(link.removeprefix("#"), targets)


class Safety(unittest.TestCase):
    def test_texts_of_a_result_never_become_markup(self):
        page = rendered(report_fixture.minimal())
        self.assertEqual(page.count("script"), 4)
        self.assertEqual(page.count("img"), 0)
        self.assertEqual(page.count("b"), rendered_with_harmless_names().count("b"))
        self.assertIn('<script>document.title="broken"</script>', page.words)
        self.assertFalse([key for _, attributes in page.elements for key in attributes
                          if key.startswith("on") or key == "style"])

    def test_the_embedded_json_is_the_result(self):
        results = [report_fixture.minimal(), report_fixture.full()]
        data = json.loads(rendered(*results).texts["script"][0])
        self.assertEqual(data["results"], results)

    def test_the_policy_allows_what_is_inside_and_nothing_else(self):
        page = rendered(report_fixture.full())
        policy = next(attributes["content"] for tag, attributes in page.elements
                      if attributes.get("http-equiv") == "Content-Security-Policy")
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        self.assertEqual(rules["default-src"], "'none'")
        for kind, texts in (("style", page.texts["style"]), ("script", page.texts["script"][1:])):
            digests = [hashlib.sha256(one.encode()).digest() for one in texts]
            hashes = [base64.b64encode(digest).decode() for digest in digests]
            self.assertEqual(rules[kind + "-src"], " ".join(f"'sha256-{one}'" for one in hashes))

    def test_nothing_refers_to_another_place(self):
        for tag, attributes in rendered(report_fixture.full()).elements:
            for key in ("src", "href", "action", "data"):
                if key in attributes:
                    self.assertRegex(attributes[key], r"^(#|data:)", tag)

    def test_the_licence_of_the_library_is_inside(self):
        self.assertIn("MIT: <b>no markup</b>", rendered(report_fixture.full()).words)


def rendered_with_harmless_names():
    clean = re.sub(r"<(/?[a-z]+)", r"(\1", json.dumps(report_fixture.minimal()))
    return rendered(json.loads(clean))


class Absence(unittest.TestCase):
    def test_every_field_may_be_absent(self):
        whole, places = report_fixture.small(), 0
        for path in report_fixture.paths(whole):
            result = copy.deepcopy(whole)
            report_fixture.put(result, path, None)
            with self.subTest(path=path):
                report_page.page([result])
            places += 1
        self.assertGreater(places, 150)


class Files(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)

    def path(self, name, content=None):
        path = os.path.join(self.directory.name, name)
        if content is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
        return path

    def test_a_report_is_written_whole(self):
        for name, content in zip(("uPlot.iife.min.js", "uPlot.min.css", "uPlot.LICENSE"), LIBRARY):
            self.path(name, content)
        path = self.path("report.html", "before")
        report.write_html(report_fixture.full(), path, charts_dir=self.directory.name)
        with open(path, encoding="utf-8") as file:
            self.assertTrue(file.read().rstrip().endswith("</html>"))
        self.assertFalse(os.path.exists(path + ".part"))

    def test_a_missing_library_is_an_error_that_says_how_to_get_it(self):
        with self.assertRaisesRegex(report.ReportError, r"ninja -C \S+ lab-charts"):
            report.write_html(report_fixture.full(), self.path("x.html"), self.path("perf/lab"))
        self.assertFalse(os.path.exists(self.path("x.html")))

    def test_files_that_are_no_results_are_refused_by_name(self):
        good = self.path("good.json", json.dumps(report_fixture.minimal()))
        self.assertEqual(len(report.read_results([good, good])), 2)
        for content, message in [
            (None, "bad.json: No such file"), ("{", "bad.json is not JSON"),
            ("[]", "bad.json is no result"), ('{"schema": "gyre-lab/9"}', "gyre-lab/9"),
        ]:
            with self.assertRaisesRegex(report.ReportError, message):
                report.read_results([self.path("bad.json", content)])


if __name__ == "__main__":
    unittest.main()
