#!/usr/bin/python3
"""`simile report`: the numbers of the page are those of the files of the run; damaged, missing and long
metrics; pages in headless Chromium at several widths, without errors of scripts, requests, cut or
covered texts.

simile-test: timeout 900
"""
import base64
import csv
import html.parser
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np
from PIL import Image

sys.path.append(os.path.join(os.environ["SIMILE_SOURCE"], "tests", "lib"))
import browser  # noqa: E402
from program import SIMILE, simile  # noqa: E402

JOB = """run: run
data: {train: train.h5, test: test.h5}
method: {name: %s}
encoder: {width: 0.0625}
batch: 32
block: 8
schedule: {epochs: 6}
augment: {preset: digits}
log: {every_steps: 1}
evaluate: {knn_every_epochs: 1, linear_every_epochs: 3, quality_every_epochs: 2}
"""
CLASSES = ["a <b>", "cat & dog", "été"]


class Page(html.parser.HTMLParser):
    """Charts by title, tables as lists of rows, marks, and everything that refers to another file."""

    def __init__(self, path):
        super().__init__()
        self.charts, self.tables, self.headings, self.references, self.marks, self.cells = {}, [], [], [], 0, []
        self.chart = self.cell = self.heading = self.take = None
        self.pictures, self.dots = [], []
        with open(path, encoding="utf-8") as f:
            self.text = f.read()
        self.feed(self.text)
        assert re.search(r"url\((?!\$\{sprite)|@import", self.text) is None

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.references += [v for k, v in attributes
                            if k in ("src", "href", "xlink:href") and not v.startswith("data:")]
        if tag == "svg":
            self.chart = {"class": a.get("class", ""), "x": a.get("data-x-title"), "curves": {}}
        elif tag == "g" and a.get("class", "").startswith("curve"):
            numbers = [[float(v) if v else math.nan for v in a[f"data-{k}"].split(",")] for k in "xy"]
            self.chart["curves"][a["data-name"]] = list(zip(*numbers))
        elif tag == "path" and a.get("class") == "mark":
            self.marks += 1
        elif tag == "rect" and a.get("class") == "cell":
            self.take = "cell"
        elif tag == "text" and a.get("class") == "title":
            self.take = "title"
        elif tag == "img":
            self.pictures.append(base64.b64decode(a["src"].split(",", 1)[1]))
        elif tag == "circle" and "data-i" in a:
            self.dots.append([float(a["cx"]), float(a["cy"])])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag == "table":
            self.tables.append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.take = "td"
        elif tag in ("h2", "summary"):
            self.headings.append("")
            self.take = "heading"

    def handle_endtag(self, tag):
        self.take = None

    def handle_data(self, data):
        if self.take == "title":
            self.charts[data] = self.chart
        elif self.take == "td":
            self.tables[-1][-1][-1] += data
        elif self.take == "heading":
            self.headings[-1] += data


def write_data(name, n, seed):
    rng = np.random.RandomState(seed)
    labels = np.arange(n) % 3
    images = rng.randint(0, 120, (n, 12, 12, 1)) + 40 * labels[:, None, None, None]
    with h5py.File("raw.h5", "w") as f:
        f["images"], f["labels"] = images.astype("u1"), labels.astype("i4")
        f["class_names"] = np.array([c.encode() for c in CLASSES])
    simile("prepare", "raw.h5", "--force", "--out", name)


def metrics(run="run"):
    with open(f"{run}/metrics.jsonl") as f:
        return [json.loads(line) for line in f]


def report(*words, code=0):
    done = simile("report", *words, code=code)
    assert code or done.stdout == "", done.stdout
    return done.stderr


def check_curve(page, title, curve, lines, key, scale=1.0):
    want = [(line["step"], scale * line[key]) for line in lines]
    got = page.charts[title]["curves"][curve]
    assert len(got) == len(want) and np.allclose(got, want, rtol=1e-8), (title, curve, got[:3], want[:3])


def check_values():
    """All curves, marks and tables against metrics.jsonl, segments.json and the results."""
    report("run")
    page, lines = Page("run/report.html"), metrics()
    assert page.references == [], page.references
    train = [line for line in lines if line["kind"] == "train"]
    for title, curve, key, scale in (("loss", "loss", "loss", 1), ("learning rate", "lr", "lr", 1),
                                     ("contrastive accuracy, %", "accuracy", "accuracy", 100),
                                     ("mean similarity in the loss", "positive", "positive", 1),
                                     ("mean similarity in the loss", "negative", "negative", 1),
                                     ("standard deviation of the embeddings", "embedding std", "embedding_std", 1),
                                     ("gradient norm", "gradient norm", "gradient_norm", 1),
                                     ("images/s", "images per s", "images_per_s", 1)):
        check_curve(page, title, curve, train, key, scale)
    for protocol in ("knn", "linear"):
        of = [line for line in lines if line.get("protocol") == protocol]
        assert len(of) >= 2
        check_curve(page, "top-1 accuracy, %", protocol, of, f"{protocol}_top1", 100)
    quality = [line for line in lines if line.get("protocol") == "quality"]
    check_curve(page, "RankMe (effective rank)", "rankme", quality, "rankme")
    assert "skipped steps" not in page.charts and "step" in {c["x"] for c in page.charts.values()}
    drawn = sum("chart" in c["class"] for c in page.charts.values())
    inside = sum(1 for line in page.text.splitlines() if 'class="mark"' in line)
    assert page.marks == inside and 0 < page.marks <= 2 * drawn, page.marks
    assert "segment 2 from step 7" in page.text and "segment 3 from step 11, batch 16 instead of 32" in page.text
    check_heatmaps(page, quality)
    check_tables(page)
    assert len(page.pictures) == 3 and {"Augmented views", "Nearest neighbours", "Map of the images", "Job"} <= set(page.headings)
    check_images(page)


def check_heatmaps(page, quality):
    for word, key in (("positives: two views of an image", "positive_histogram"), ("negatives: two images", "negative_histogram")):
        assert f"similarities of {word}" in page.charts
        for line in quality:
            for b, n in enumerate(line[key]):
                if n:
                    low = b / 20 - 1
                    assert f"{low:.2f} to {low + 0.05:.2f}, {line['step']}: {100 * n / sum(line[key]):.3g} %" in page.text, (line["step"], b)


def check_tables(page):
    with open("run/results/linear-step-%09d.json" % metrics()[-1]["step"]) as f:
        result = json.load(f)
    rows = {row[0]: row[1:] for table in page.tables for row in table}
    for c in result["per_class"]:
        assert rows[c["class"]] == [str(c["n_test"]), str(c["n_correct"]), f"{100 * c['n_correct'] / c['n_test']:.2f}"]
    assert set(CLASSES) <= set(rows) and "<b>" not in page.text
    with open("run/results/pretrain.json") as f:
        cost = json.load(f)
    for phase, t in cost["time_s"].items():
        row = rows[phase.replace("_", " ")]
        assert row[:3] == [f"{t[k]:.2f}" for k in ("rank_0", "least", "most")], row
        assert abs(float(row[3]) - 100 * t["rank_0"] / cost["elapsed_s"]) <= 0.06, row
    with open("run/segments.json") as f:
        segments = json.load(f)
    table = next(t for t in page.tables if t[0][0] == "#")
    assert [row[1] for row in table[1:]] == [s["start"] for s in segments]
    assert [row[3] for row in table[1:]] == [f"{s['ranks']} x {s['threads']}" for s in segments]
    assert [row[4] for row in table[1:]] == ["32", "32", "16"]
    assert rows["method"] == ["simclr"] and rows["state"] == ["completed"]
    best = max(line.get(f"{p}_top1", 0) for line in metrics() for p in ("knn", "linear"))
    assert rows["best top-1"][0].startswith(f"{100 * best:.2f} %"), rows["best top-1"]


def pixels(data):
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def check_images(page):
    """Neighbours of 12 of 60 test images, and the map, against the features that `embed` writes."""
    simile("embed", "run", "--data", "test.h5", "--out", "e.h5", "--force")
    with h5py.File("e.h5") as f:
        x = f["features"][()]
    z = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("f4")
    with h5py.File("test.h5") as f:
        images = f["images"][()]
    cosines = z.astype("f8") @ z.T.astype("f8")
    np.fill_diagonal(cosines, -2)
    grid, sheet = pixels(page.pictures[0]), pixels(page.pictures[1])

    def cell(row, column):
        y, x = 4 + row * 28, 4 + column * 28
        return grid[y:y + 24:2, x:x + 24:2, :1].astype(int)

    for q in range(12):
        assert np.abs(cell(q, 0) - images[q * 5]).max() <= 1 and (cell(q, 1) == 255).all()
        for k, i in enumerate(np.argsort(-cosines[q * 5], kind="stable")[:8]):
            same = [j for j in range(60) if abs(cosines[q * 5, j] - cosines[q * 5, i]) < 1e-6]
            assert min(np.abs(cell(q, 2 + k) - images[j]).max() for j in same) <= 1, (q, k)
    assert sheet.shape == (36, 300, 3)
    for i in (0, 24, 25, 59):
        shown = sheet[i // 25 * 12:, i % 25 * 12:][:12, :12, 0].astype(float)
        assert np.abs(shown - images[i][:, :, 0]).mean() < 8, i  # JPEG
    tool = os.path.join(os.environ["SIMILE_TOOLS"], "eval_tool_map")
    out = subprocess.run([tool, "unit-tsne", "60", str(x.shape[1]), "30"], input=x.tobytes(), capture_output=True, check=True)
    want = np.array([line.split() for line in out.stdout.decode().splitlines()], "f8")
    assert len(page.dots) == 120
    got, d = np.array(page.dots[:60]), lambda y: np.sqrt(((y[:, None] - y[None]) ** 2).sum(-1))
    scale = d(got).max() / d(want).max()
    assert np.abs(d(got) - scale * d(want)).max() < 0.3


def check_csv():
    """Every value of metrics.jsonl, exactly, in the line of its step and the column of its name."""
    report("run", "--csv", "m.csv")
    report("run", "--csv", "m.csv")  # replaces its own
    with open("m.csv", newline="") as f:
        table = {int(row["step"]): row for row in csv.DictReader(f)}
    used = set()
    for line in metrics():
        group = f"{line['protocol']}/" if "protocol" in line else ""
        for key, value in line.items():
            if key != "step" and isinstance(value, (int, float)):
                assert float(table[line["step"]][group + key]) == value, (line["step"], key)
                used.add((line["step"], group + key))
    filled = {(step, k) for step, row in table.items() for k, v in row.items() if v and k != "step"}
    assert filled == used and len(table) == len({line["step"] for line in metrics()})
    for words in (["run", "other", "--csv", "x.csv"], ["run", "--csv", "x.csv", "--out", "y.html"]):
        report(*words, code=64)
    report("run", "--csv", "job.yaml", code=73)


def check_several():
    """Curves of several runs by epoch, one per run."""
    report("run", "other", "--out", "both.html")
    page = Page("both.html")
    assert page.references == [] and set(page.charts["loss"]["curves"]) == {"run", "other"}
    for run in ("run", "other"):
        want = [(line["epoch"], line["loss"]) for line in metrics(run) if line["kind"] == "train"]
        assert np.allclose(page.charts["loss"]["curves"][run], want, rtol=1e-8)
        assert any(row[0] == run for row in page.tables[0])
    knn = page.charts["top-1 accuracy, %: knn_top1"]["curves"]
    assert len(knn["run"]) == len([line for line in metrics() if line.get("protocol") == "knn"])


def copy_run(keep):
    shutil.rmtree("copy", ignore_errors=True)
    shutil.copytree("run", "copy")
    with open("run/metrics.jsonl", "rb") as f:
        lines = f.read().splitlines(keepends=True)
    with open("copy/metrics.jsonl", "wb") as f:
        f.writelines(keep(lines))


def check_damage():
    """Damaged lines are counted; the page has the others."""
    for keep, n, warned in ((lambda ls: ls[:3], 3, False), (lambda ls: [], 0, False),
                            (lambda ls: ls[:4] + [ls[4][:30]], 4, False), (lambda ls: ls[:1], 1, False),
                            (lambda ls: ls[:2] + [b"\0" * 50 + b"\n", b"[1]\n"] + ls[2:5], 5, True)):
        copy_run(keep)
        log = report("copy")
        page = Page("copy/report.html")
        points = page.charts.get("loss", {"curves": {"loss": []}})["curves"]["loss"]
        train = [line for line in metrics()[:n] if line["kind"] == "train"]
        assert len(points) == len(train), (len(points), n)
        assert ("are not metrics" in log) == warned, log
        assert n or "There are no metrics yet" in page.text
    for name in ("metrics.jsonl", "segments.json", "results", "config.yaml", "checkpoints/latest"):
        copy_run(lambda ls: ls)
        path = f"copy/{name}"
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
        report("copy")
        Page("copy/report.html")
        for content in (b"", b"{", b"\xff\xfe", b"[[]]"):
            with open(path if name != "results" else "copy/results.x", "wb") as f:
                f.write(content)
            if name != "config.yaml":
                report("copy")
                Page("copy/report.html")


def check_many_points():
    """300,000 steps and 3,000 segments: extremes are drawn, the page stays small."""
    copy_run(lambda ls: ls[:1])
    line = metrics()[0]
    values = np.random.RandomState(3).standard_normal(300000).round(4)
    values[123456] = 50
    with open("copy/metrics.jsonl", "w") as f:
        for i, v in enumerate(values):
            f.write(json.dumps({**line, "step": i + 1, "epoch": (i + 1) / 100, "loss": v}) + "\n")
    with open("copy/segments.json") as f:
        one = json.load(f)[0]
    with open("copy/segments.json", "w") as f:
        json.dump([{**one, "id": str(i), "from_step": 100 * i, "to_step": 100 * i + 100} for i in range(3000)], f)
    report("copy")
    curve = Page("copy/report.html").charts["loss"]["curves"]["loss"]
    assert (123457, 50) in curve and len(curve) < 4000 and curve[0][0] == 1 and curve[-1][0] == 300000
    assert min(v for _, v in curve) == values.min()
    assert {(x, y) for x, y in curve} <= {(i + 1, v) for i, v in enumerate(values)}
    assert os.path.getsize("copy/report.html") < 4e6


def check_refusals():
    for words, code, expected in (([], 64, "RUN"), (["nowhere"], 66, "not a directory"), (["."], 66, "not the directory of a run"),
                                  (["train.h5"], 66, "not a directory"), (["run", "other"], 64, "--out"),
                                  (["run", "--watch=0"], 64, "--watch"), (["run", "--watch=x"], 64, "--watch"),
                                  (["run", "--out", "train.h5"], 73, "train.h5"),
                                  (["run", "--out", "run/config.yaml", "--force"], 64, "config.yaml"),
                                  (["run", "--out", "no/where.html"], 73, "no")):
        log = report(*words, code=code)
        assert expected in log, (words, log)
    with open("copy/report.html", "w") as f:
        f.write("mine")
    assert "report.html" in report("copy", code=73)
    report("copy", "--force")
    Page("copy/report.html")


def check_running():
    """--watch writes while the run goes on, with a reload, and once more at its end."""
    shutil.rmtree("live", ignore_errors=True)
    run = subprocess.Popen([SIMILE, "pretrain", "job.yaml", "run=live", "schedule.epochs=40"],
                           stderr=subprocess.DEVNULL)
    while run.poll() is None and not os.path.exists("live/metrics.jsonl"):
        time.sleep(0.01)
    watch = subprocess.Popen([SIMILE, "report", "live", "--watch=1"], stderr=subprocess.DEVNULL)
    seen = False
    while run.poll() is None:
        if os.path.exists("live/report.html"):
            with open("live/report.html") as f:
                seen = seen or 'http-equiv="refresh"' in f.read()
        time.sleep(0.02)
    assert watch.wait() == 0 and run.returncode == 0
    page = Page("live/report.html")
    assert 'http-equiv="refresh"' not in page.text and len(page.charts["loss"]["curves"]["loss"]) == len(
        [line for line in metrics("live") if line["kind"] == "train"])
    return seen


def check_key():
    shutil.rmtree("keyed", ignore_errors=True)
    simile("pretrain", "job.yaml", "run=keyed", "report=true", "--stop-after", "4", code=75)
    assert len(Page("keyed/report.html").charts["loss"]["curves"]["loss"]) == 4
    simile("pretrain", "job.yaml", "run=keyed", "report=true", ranks=2)
    page = Page("keyed/report.html")
    assert any(row[:1] == ["state"] and row[1] == "completed" for t in page.tables for row in t)
    os.remove("keyed/report.html")
    os.mkdir("keyed/report.html")
    log = simile("pretrain", "job.yaml", "run=keyed", "report=true", "schedule.epochs=7", "--accept", "schedule.epochs").stderr
    assert "no report" in log, log


def check_browser():
    reason = browser.why_not()
    if reason:
        print(f"skipped: pages in a browser, {reason}")
        return
    for path in ("run/report.html", "both.html", "copy/report.html"):
        for width in (390, 1280, 1920):
            for dark in (False, True) if width == 1280 else (False,):
                tips, dots = browser.check_page(path, width, dark)
        assert bool(dots) == (path != "both.html") and all(d and d[1] == "-96px 0px" for d in dots) and len(dots) in (0, 2), dots
        assert tips and all(tip and re.match(r"(step|epoch) ", tip) for tip in tips), tips
    browser.screenshot("run/report.html", 1280, "page.png")
    copy_run(lambda ls: ls[:1])
    report("copy")
    browser.check_page("copy/report.html", 390)
    copy_run(lambda ls: [])
    report("copy")
    browser.check_page("copy/report.html", 390)


def main():
    os.chdir(tempfile.mkdtemp())
    write_data("train.h5", 96, 1)
    write_data("test.h5", 60, 2)
    with open("job.yaml", "w") as f:
        f.write(JOB % "simclr")
    with open("other.yaml", "w") as f:
        f.write(JOB % "siglip, scale: 5")
    simile("pretrain", "job.yaml", "--stop-after", "7", code=75)
    simile("pretrain", "job.yaml", "--stop-after", "11", ranks=2, code=75)
    simile("pretrain", "job.yaml", "batch=16", "block=8", "--accept", "batch")
    simile("pretrain", "other.yaml", "run=other")
    simile("evaluate", "linear", "run")
    check_values()
    check_csv()
    check_several()
    check_damage()
    check_many_points()
    check_refusals()
    check_running()
    check_key()
    check_browser()
    shutil.rmtree(os.getcwd())


main()
