"""Pages in headless Chromium: errors of scripts, requests, layout at several widths, screenshots."""
import json
import os
import re
import shutil
import subprocess
import tempfile

# Reported by the page itself, in the attribute data-check of its body.
CHECK = """<script>
addEventListener("load", () => {
  const problems = [], inside = (a, b) => a.left >= b.left - 1 && a.right <= b.right + 1 &&
    a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
  const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  for (const svg of document.querySelectorAll("svg")) {
    const box = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")];
    const title = svg.querySelector(".title")?.textContent;
    const boxes = texts.map(t => t.getBoundingClientRect());
    texts.forEach((t, i) => {
      if (!inside(boxes[i], box)) problems.push(`${title}: "${t.textContent}" is cut`);
      for (let k = 0; k < i; k++)
        if (overlap(boxes[i], boxes[k]))
          problems.push(`${title}: "${t.textContent}" covers "${texts[k].textContent}"`);
    });
  }
  if (document.documentElement.scrollWidth > innerWidth) problems.push("the page is wider than the window");
  const tips = [...document.querySelectorAll("svg.chart")].map(chart => {
    const box = chart.getBoundingClientRect();
    chart.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + box.width * 0.6, clientY: box.top + 60}));
    return document.querySelector(".tip")?.textContent;
  });
  const dots = [...document.querySelectorAll("svg.scatter")].map(plot => {
    const dot = plot.querySelectorAll(".dot[data-i]")[1];
    dot.dispatchEvent(new PointerEvent("pointermove", {clientX: 200, clientY: 200, bubbles: true}));
    const image = document.querySelector(".tip .image");
    return image && [document.querySelector(".tip").textContent, image.style.backgroundPosition];
  });
  document.body.dataset.check = JSON.stringify(
    {problems, tips, dots, requests: performance.getEntriesByType("resource").map(r => r.name)
      .filter(n => !n.startsWith("data:"))});
});
</script>"""


def run_chromium(*words):
    """Returns stdout and the messages of the console."""
    directory = tempfile.mkdtemp()
    done = subprocess.run(["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                           "--disable-dev-shm-usage", "--enable-logging=stderr", f"--user-data-dir={directory}", *words],
                          capture_output=True, text=True, timeout=300)
    shutil.rmtree(directory, ignore_errors=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def why_not():
    """Why pages cannot be shown here, or None."""
    if not shutil.which("chromium"):
        return "chromium is not installed"
    try:
        shown = "shown" in run_chromium("--dump-dom", "data:text/html,<p>shown")[0]
    except subprocess.TimeoutExpired:
        shown = False
    return None if shown else "chromium does not run on this machine"


def check_page(path, width, dark=False):
    """Loads a copy of the page that checks itself.  Returns the tooltips of its charts, and text and position of
    the image at the second point of its scatter plots."""
    with open(path) as f:
        text = f.read()
    copy = os.path.abspath("checked.html")
    with open(copy, "w") as f:
        f.write(text.replace("</body>", CHECK + "</body>"))
    scheme = ["--force-dark-mode"] if dark else []
    dom, console = run_chromium(f"--window-size={width},2000", *scheme, "--dump-dom", f"file://{copy}")
    assert console == [], console
    report = re.search(r'data-check="([^"]*)"', dom)
    assert report, f"{path}: no report at width {width}"
    report = json.loads(report.group(1).replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert report["problems"] == [], f"{path} at {width} pixels: {report['problems']}"
    assert report["requests"] == [], report["requests"]
    return report["tips"], report["dots"]


def screenshot(path, width, out):
    run_chromium(f"--window-size={width},1600", f"--screenshot={out}", f"file://{os.path.abspath(path)}")
    assert os.path.getsize(out) > 10000
