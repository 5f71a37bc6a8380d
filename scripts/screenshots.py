"""Takes the pictures of scripts/screenshots, and checks each page. It drives Chromium over WebDriver, with nothing but
Python's own library."""

import base64
import datetime
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PICTURES = HERE.parent / ".photogate/screenshots"
DOCS = HERE.parent / "docs/pictures"
WIDTHS = {1440: 900, 390: 844}
LOOKS = ("light", "dark")
# A page that is longer than this is cut.
LONGEST = 4000
# The pictures of the README and the docs: at most 60 KB each.
IN_DOCS = {"credits-own": "credits", "event-running": "event", "queues-operator": "queues", "receipt": "receipt"}
SMALL = 60_000


class Browser:
    """Debian's Chromium, without a window."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.at = f"http://127.0.0.1:{port}"
        for _ in range(200):
            try:
                self.ask("GET", "/status")
                break
            except OSError:
                time.sleep(0.05)
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                     "--disable-background-networking", "--hide-scrollbars", "--font-render-hinting=none"]
        session = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments}, "timeouts": {"script": 120000}}}})
        self.at += f"/session/{session['sessionId']}"

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.at + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=180) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def go(self, address):
        self.ask("POST", "/url", {"url": address})

    def run(self, script, *arguments):
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait_for(self, script, *arguments):
        """The script calls its last argument when it is done."""
        return self.ask("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def devtools(self, command, **parameters):
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def looks(self, width, look):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=WIDTHS[width], deviceScaleFactor=1,
                      mobile=width < 500)
        self.devtools("Emulation.setEmulatedMedia",
                      features=[{"name": "prefers-color-scheme", "value": look}])

    def picture(self, width, **how):
        height = self.devtools("Page.getLayoutMetrics")["cssContentSize"]["height"]
        clip = {"x": 0, "y": 0, "width": width, "height": min(max(height, WIDTHS.get(width, 0)), LONGEST), "scale": 1}
        clip.update(how.pop("clip", {}))
        return base64.b64decode(
            self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip, **how)["data"])

    def log_in(self, site, email, password):
        self.ask("DELETE", "/cookie")
        self.go(site + "/login")
        self.run("""document.querySelector('input[name=email]').value = arguments[0];
                    document.querySelector('input[name=password]').value = arguments[1];
                    document.querySelector('input[name=password]').form.submit()""", email, password)
        for _ in range(200):
            if not self.run("return location.pathname").startswith("/login"):
                return
            time.sleep(0.1)
        sys.exit(f"{email} cannot log in")

    def search(self, field, text):
        """Sends the form of this field, and waits for the page that answers."""
        self.run("""const field = document.querySelector(arguments[0]);
                    field.value = arguments[1]; document.body.dataset.asked = '1'; field.form.submit()""", field, text)
        for _ in range(200):
            if self.run("return document.readyState === 'complete' && !document.body.dataset.asked"):
                return
            time.sleep(0.05)
        sys.exit(f"the form of {field} does not answer")

    def force(self, states):
        """Shows every control as if it were hovered and focused."""
        root = self.devtools("DOM.getDocument", depth=0)["root"]["nodeId"]
        found = self.devtools("DOM.querySelectorAll", nodeId=root, selector="a, button, summary, input, select")
        for node in found["nodeIds"][:400]:
            try:
                self.devtools("CSS.forcePseudoState", nodeId=node, forcedPseudoClasses=states)
            except RuntimeError:
                pass  # it is gone: this page shows what goes on

    def close(self):
        self.ask("DELETE", "")
        self.driver.terminate()
        self.driver.wait()


AXE = """const done = arguments[arguments.length - 1];
    axe.run(document, arguments[0]).then(found => done(found.violations.map(one => ({
        rule: one.id, impact: one.impact, help: one.help,
        where: one.nodes.map(node => node.target.join(' ') + (node.any[0] ? ': ' + node.any[0].message : '')),
    }))), error => done([{rule: 'axe', impact: '', help: String(error), where: ['']}]))"""
# Puts the start of an animation, as that of a number that has changed, on everything it can be on, and stops there.
CHANGING = """const classes = new Set();
    const read = rules => { for (const rule of rules) {
        if (rule.cssRules) read(rule.cssRules);
        if (rule.style && rule.style.animationName && rule.style.animationName !== 'none')
            for (const found of (rule.selectorText || '').matchAll(/\\.([\\w-]+)/g)) classes.add(found[1]);
    } };
    for (const sheet of document.styleSheets) read(sheet.cssRules);
    for (const element of document.querySelectorAll('[data-live], main strong, main output'))
        element.classList.add(...classes);
    for (const animation of document.getAnimations()) { animation.pause(); animation.currentTime = 0; }
    return [...classes]"""


def check(browser, axe):
    """What is wrong with the page that is shown: pairs of a problem and a place."""
    found = []

    def ask(state, options):
        for one in browser.wait_for(AXE, {**options, "resultTypes": ["violations"]}):
            found.extend((f"{one['impact']} {one['rule']}{state}: {one['help']}", where) for where in one["where"])

    def fits(state):
        over = browser.run("return document.documentElement.scrollWidth - window.innerWidth")
        if over > 0:
            found.append((f"serious width{state}: the page does not fit", f"it is {over} pixels too wide"))

    contrast = {"runOnly": ["color-contrast"]}
    browser.run(axe)
    fits("")
    browser.run("for (const closed of document.querySelectorAll('details:not([open])')) closed.open = true")
    fits(" when all is open")
    ask("", {})
    browser.force(["hover", "focus", "focus-visible", "active"])
    ask(" when hovered and focused", contrast)
    browser.force([])
    if browser.run(CHANGING):
        ask(" while it changes", contrast)
    return found


def main():
    scene = json.loads(pathlib.Path(sys.argv[1]).read_text())
    asked = [name for name in sys.argv[2:] if not name.startswith("--")]
    for_docs = "--docs" in sys.argv
    axe = (HERE.parent / ".photogate/axe-core/axe.min.js").read_text()
    tomorrow = datetime.datetime.now() + datetime.timedelta(days=1)
    values = {**scene, "soon": tomorrow.strftime("%Y-%m-%dT%H:%M"),
              "month": datetime.date.today().strftime("%Y-%m")}
    pages = json.loads((HERE / "pages.json").read_text())
    unknown = set(asked) - {page["name"] for page in pages}
    if unknown:
        sys.exit(f"scripts/pages.json has no {', '.join(sorted(unknown))}")
    pages = [page for page in pages if not asked or page["name"] in asked]
    PICTURES.mkdir(parents=True, exist_ok=True)
    wrong = {}
    browser = Browser()
    browser.devtools("DOM.enable")
    browser.devtools("CSS.enable")
    try:
        for person in sorted({page.get("as", "staff") for page in pages}):
            browser.looks(1440, "light")
            if person == "nobody":
                browser.go(scene["address"] + "/login")
                browser.ask("DELETE", "/cookie")
            else:
                browser.log_in(scene["address"], scene["people"][person], scene["password"])
            for page in pages:
                if page.get("as", "staff") != person:
                    continue
                name, path = page["name"], page["path"].format(**values)
                print(name, end=" ", flush=True)
                for width in WIDTHS:
                    for look in LOOKS:
                        browser.looks(width, look)
                        browser.go(scene["address"] + path)
                        for field, text in page.get("search", {}).items():
                            browser.search(field, text.format(**values))
                        shown = f"{name}-{width}-{look}"
                        (PICTURES / f"{shown}.png").write_bytes(browser.picture(width, format="png"))
                        if for_docs and name in IN_DOCS and (width, look) == (1440, "light"):
                            keep(browser, IN_DOCS[name])
                        for problem, place in check(browser, axe):
                            wrong.setdefault((name, problem), {}).setdefault(place, []).append(f"{width} {look}")
    finally:
        browser.close()
    print(f"\nThe pictures are in {PICTURES}.")
    for (name, problem), places in wrong.items():
        print(f"{name}: {problem}")
        for place, where in list(places.items())[:4]:
            print(f"    {place} ({', '.join(where)})")
        if len(places) > 4:
            print(f"    and {len(places) - 4} other places")
    if wrong:
        sys.exit(f"{len(wrong)} things are wrong, see above")
    print("All pages fit, and axe-core finds nothing wrong with them.")


def keep(browser, name):
    """A picture for the README and the docs: the first screen, as small as it must be."""
    DOCS.mkdir(parents=True, exist_ok=True)
    browser.devtools("Emulation.setDeviceMetricsOverride", width=1200, height=800, deviceScaleFactor=1, mobile=False)
    time.sleep(0.3)
    for quality in range(85, 10, -10):
        picture = browser.picture(1200, format="webp", quality=quality, clip={"height": 800})
        if len(picture) < SMALL:
            break
    (DOCS / f"{name}.webp").write_bytes(picture)
    browser.looks(1440, "light")


main()
