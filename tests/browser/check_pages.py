"""Opens reports in headless Chromium, as a reader does.

    check_pages.py LOWRANK FOLDER

Runs a small `lowrank mnist`, an `svd` and a `report` of several runs into FOLDER, and opens each page in
Chromium, which chromedriver drives: no message in the console, nothing requested but the file, every
plot has a size, nothing is wider than the window at 390 and 1280 pixels, in both themes; a broken page
(a script in a label) runs nothing. Leaves screenshots and a PDF of each page in FOLDER.
"""

import base64
import json
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

PORT = 9517
DRAWN = """return Array.from(document.querySelectorAll('svg')).filter(svg => svg.checkVisibility())
  .map(svg => svg.getBoundingClientRect()).map(box => Math.min(box.width, box.height))"""
REQUESTED = "return performance.getEntriesByType('resource').map(entry => entry.name).filter(name => !name.startsWith('data:'))"
OVERHANG = "return document.documentElement.scrollWidth - window.innerWidth"
COLOURS = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"

checks = 0


def require(holds, what):
    global checks
    checks += 1
    if not holds:
        sys.exit(f"check_pages.py: {what}")


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


class Browser:
    """A window of this width in this theme."""

    def __init__(self, width, dark):
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},900"]
        if dark:
            arguments.append("--blink-settings=preferredColorScheme=0")
        options = {"args": arguments, "mobileEmulation": {"deviceMetrics": {"width": width, "height": 900, "pixelRatio": 1}}}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.session = f"/session/{answer['sessionId']}"

    def open(self, page):
        ask("POST", self.session + "/url", {"url": page.resolve().as_uri()})

    def run(self, script):
        return ask("POST", self.session + "/execute/sync", {"script": script, "args": []})

    def console(self):
        return ask("POST", self.session + "/se/log", {"type": "browser"})

    def screenshot(self, file):
        shot = ask("POST", self.session + "/goog/cdp/execute", {"cmd": "Page.captureScreenshot", "params": {"captureBeyondViewport": True}})
        file.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, file):
        file.write_bytes(base64.b64decode(ask("POST", self.session + "/print", {})))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        ask("DELETE", self.session)


def make_pages(lowrank, folder):
    def run(*words):
        subprocess.run([lowrank, *map(str, words)], check=True, stdout=subprocess.DEVNULL)

    run("mnist", "--out", folder / "mnist", "--quiet")
    run("svd", "--random", "40x30", "--true-rank", 4, "--rank", 2, "--out", folder / "svd", "--report")
    evil = folder / "evil"
    evil.mkdir()
    text = "</style><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">`touch x`\u202e"
    training = {"run": {"data": text, text: text}, "result": {"steps": 1}}
    evaluation = {"data": text, "examples": 2, "class_names": [text, text], "off": {"accuracy": 0.5, "wrong_by_class": [1, 0], "confusion": [[0, 1], [0, 1]]}}
    layer = {"name": text, "shape": [4, 4], "rank": 1, "weight": {"singular_values": [2, 1], "energy": 5, "count": 4}, "update": None}
    (evil / "training.json").write_text(json.dumps(training))
    (evil / "history.json").write_text(json.dumps({"points": [[1, None, 0.1], [2, 0.5, 0.1], [3, 0.4, 0.2]]}))
    (evil / "figures.json").write_text(json.dumps({"evaluation": evaluation, "layers": [layer] * 8}))
    run("report", evil)
    run("report", folder / "mnist", evil, folder / "svd", "--out", folder / "all.html")
    return [folder / "mnist" / "report.html", folder / "svd" / "report.html", evil / "report.html", folder / "all.html"]


def check(browser, page, width, dark, folder):
    browser.open(page)
    what = f"{page} at {width} pixels{', dark' if dark else ''}"
    sizes = browser.run(DRAWN)
    require(sizes and min(sizes) > 20, f"every plot must have a size, in {what}. Got {sizes}.")
    overhang = browser.run(OVERHANG)
    require(overhang <= 0, f"nothing may be wider than the window, in {what}. Got {overhang} pixels.")
    requested = browser.run(REQUESTED)
    require(not requested, f"nothing may be requested, in {what}. Got {requested}.")
    title = browser.run("return document.title")
    require(title.startswith("lowrank report: "), f"no text may be obeyed, in {what}. Got the title {title}.")
    messages = browser.console()
    require(not messages, f"the console must be empty, in {what}. Got {messages}.")
    name = f"{page.parent.name}-{page.stem}-{width}{'-dark' if dark else ''}"
    browser.screenshot(folder / f"{name}.png")
    return browser.run(COLOURS)


def main():
    lowrank, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True)
    pages = make_pages(lowrank, folder)
    driver = subprocess.Popen(["chromedriver", f"--port={PORT}"], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                if ask("GET", "/status")["ready"]:
                    break
            except urllib.error.URLError:
                time.sleep(0.1)
        colours = {}
        for width in (390, 1280):
            for dark in (False, True):
                with Browser(width, dark) as browser:
                    for page in pages:
                        colours[dark] = check(browser, page, width, dark, folder)
                        if width == 1280 and not dark:
                            file = folder / f"{page.parent.name}-{page.stem}.pdf"
                            browser.pdf(file)
                            require(file.stat().st_size > 10_000, f"{page} must be printable. Got {file.stat().st_size} bytes.")
        require(colours[False] != colours[True], f"the themes must differ. Got {colours}.")
    finally:
        driver.terminate()
    print(f"{checks} checks of {len(pages)} pages in Chromium passed; screenshots and PDFs: {folder}")


if __name__ == "__main__":
    main()
