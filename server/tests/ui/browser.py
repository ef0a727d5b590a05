"""The dashboard as a person uses it: login, live values, a proof, the wizard, the model switch.

Called by the test's main program, which runs the worker. Prints one line for each step and ends with
1 at the first that fails.
"""

from __future__ import annotations

import argparse
import json
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cdp import Browser

TOKEN = "eyJhbGciOiJub25lIn0.c2VjcmV0LW9mLXRoZS10ZXN0.c2ln"

LABELLED = """[...document.querySelectorAll("input, button, a, img, svg[role=img]")]
  .filter((e) => e.offsetParent !== null || e instanceof SVGElement)
  .filter((e) => e.tagName === "IMG" ? !e.hasAttribute("alt") : !(e.textContent.trim()
    || e.getAttribute("aria-label") || (e.labels && [...e.labels].some((l) => l.textContent.trim()))))
  .map((e) => e.outerHTML.slice(0, 120))"""

FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


class Visit:
    """One visit of the dashboard."""

    def __init__(self, arguments: argparse.Namespace, browser: Browser) -> None:
        self.browser = browser
        self.url: str = arguments.url
        self.key: str = arguments.key
        self.model: str = arguments.model
        self.config = Path(arguments.config)
        self.shots = Path(arguments.shots)

    def text(self, selector: str) -> str:
        found: str = self.browser.run(f"document.querySelector({json.dumps(selector)})?.textContent ?? ''")
        return found

    def login(self) -> None:
        """The page asks for the key, refuses a wrong one, and opens with the right one."""
        browser = self.browser
        browser.size(1280, 900)
        browser.scheme("light")
        browser.send("Page.navigate", url=f"{self.url}/ui")
        browser.wait("the login", "document.querySelector('#login')?.open")
        assert browser.run("location.pathname") == "/ui/"
        browser.type("#key", "wrong")
        browser.press("Enter")
        browser.wait("a refusal", "document.querySelector('#login-error').textContent.length > 5")
        browser.type("#key", self.key)
        browser.press("Enter")
        browser.wait("the worker's state", "document.querySelector('#health').dataset.kind === 'good'")
        assert not browser.run("document.querySelector('#login').open")

    def live(self) -> None:
        """Values arrive and change by themselves."""
        browser = self.browser
        lead = "document.querySelector('.figure.lead b').textContent"
        browser.wait("tokens a second", f"Number({lead}.replace(',', '')) > 10")
        browser.wait("shares", "Number(document.querySelector('.figure.share b').textContent) > 2")
        browser.wait("a line", "document.querySelector('.timeline .line').getAttribute('d')?.length > 60")
        browser.wait("marks of proofs", "document.querySelectorAll('.marks .share').length > 1")
        browser.wait("latencies", "document.querySelectorAll('.bars rect').length > 3")
        browser.wait("listed proofs", "document.querySelectorAll('#live tbody tr').length >= 3")
        browser.wait(
            "a strip of draws", "document.querySelector('.strip .inside').getAttribute('d').length > 1000"
        )
        assert "up" in self.text(".engines"), self.text(".engines")
        assert "mined" in self.text("#live .reasons")
        assert "devnet" in self.text("#live .facts")
        seen = browser.run("document.querySelector('.timeline .line').getAttribute('d')")
        browser.wait(
            "a moving line",
            f"document.querySelector('.timeline .line').getAttribute('d') !== {json.dumps(seen)}",
        )
        box = browser.run(
            "(b => [b.x + b.width - 40, b.y + 90])(document.querySelector('.timeline').getBoundingClientRect())"
        )
        browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])
        browser.wait(
            "the reading under the pointer",
            "document.querySelector('.readout').textContent.includes('tokens/s')",
        )
        browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=5, y=5)

    def theme(self) -> None:
        """The button shows the other theme, also after a reload; the key is kept by the tab."""
        browser = self.browser
        colour = "getComputedStyle(document.body).backgroundColor"
        light = browser.run(colour)
        browser.click("#theme")
        dark = browser.run(colour)
        assert dark != light
        browser.send("Page.reload")
        browser.wait("the page again", "document.querySelector('#health')?.dataset.kind === 'good'")
        assert browser.run(colour) == dark
        browser.click("#theme")
        assert browser.run(colour) == light
        browser.run("localStorage.clear(), delete document.documentElement.dataset.theme")

    def proof(self) -> None:
        """A proof opens with its checks and the picture of its draws."""
        browser = self.browser
        browser.click('nav a[href="#proofs"]')
        browser.wait("the list", "document.querySelectorAll('#proofs tbody tr').length >= 3")
        browser.click("#proofs tbody tr:nth-child(2) button")
        browser.wait("the picture", "document.querySelectorAll('#proof circle').length === 256")
        assert "Every check passed" in self.text("#proof"), self.text("#proof")
        assert browser.run("document.querySelectorAll('#proof .draw.out').length") == 0
        assert "u in interval" in self.text("#proof")
        browser.press("Escape")
        browser.wait("the dialog to close", "!document.querySelector('#proof').open")
        # Also by completion id.
        title = self.text("#proofs tbody tr:nth-child(1) button")
        known = browser.run(
            "fetch('api/proofs', {headers: {Authorization: 'Bearer ' + sessionStorage.getItem('tensorpow-key')}}).then((a) => a.json()).then((a) => a.proofs[0].completion_id)"
        )
        assert known[:8] == title[:8]
        browser.type("#wanted", known)
        browser.press("Enter")
        browser.wait("the proof by its id", "document.querySelectorAll('#proof circle').length === 256")
        browser.press("Escape")

    def wizard(self) -> None:
        """Bad values are named at their field, good ones are written, the token is never shown."""
        browser = self.browser
        browser.click('nav a[href="#setup"]')
        browser.wait("the wizard", "!!document.querySelector('input[value=broker]')?.offsetParent")
        browser.click("input[value=broker]")
        browser.type("#engine_url", "http://127.0.0.1:8000")
        browser.type("#broker_url", "https://broker.example")
        browser.click("#setup form button.main")
        browser.wait("the named field", "document.querySelector('#broker_url').hasAttribute('aria-invalid')")
        assert "wss://" in self.text("#broker_url-hint"), self.text("#broker_url-hint")
        assert "broker" not in self.config.read_text()
        browser.type("#broker_url", "wss://broker.example/v1/ws")
        browser.type("#token", TOKEN)
        browser.type("#model", self.model)
        browser.click("#setup form button.main")
        browser.wait("the file", "document.querySelector('#setup .outcome').dataset.kind === 'good'")
        written = self.config.read_text()
        assert written.startswith("# kept by the wizard\n[http]\nmax_body = 1000000\n"), written
        for part in ('url = "wss://broker.example/v1/ws"', f'jwt = "{TOKEN}"', 'worker_mode = "broker"'):
            assert part in written, written
        assert stat.S_IMODE(self.config.stat().st_mode) == 0o600
        browser.send("Page.reload")
        browser.wait("the values again", "document.querySelector('#broker_url')?.value.startsWith('wss://')")
        assert browser.run("document.querySelector('#token').value") == ""
        assert "keep" in browser.run("document.querySelector('#token').placeholder")
        assert TOKEN not in browser.run("document.documentElement.outerHTML")

    def switch(self) -> None:
        """The model is switched, where the worker can do that."""
        browser = self.browser
        browser.wait("the active model", "document.querySelector('#setup .facts').textContent.length > 12")
        if not browser.run("!!document.querySelector('#switch-model').offsetParent"):
            assert "keeps its model" in self.text("#setup"), self.text("#setup")
            print("SKIPPED: model switch: this worker has no active-model route")
            return
        outcome = "document.querySelectorAll('#setup .outcome')[1]"
        browser.type("#switch-model", "no/such@c0ffee")
        browser.click("#setup .card:nth-child(2) button.main")
        browser.wait("a refusal", f"{outcome}.dataset.kind === 'bad'")
        browser.type("#switch-model", self.model)
        browser.click("#switch-now")
        browser.click("#setup .card:nth-child(2) button.main")
        facts = "document.querySelector('#setup .card:nth-child(2) .facts').textContent"
        browser.wait("the switch at once", f"{facts}.includes('a switch')")
        assert "Switched" in browser.run(f"{outcome}.textContent")
        actions = "#setup .card:nth-child(2) .actions button"
        browser.click(f"{actions}:nth-child(2)")
        browser.wait("no pin", f"{facts}.includes('registry')")
        back = f"{actions}:nth-child(3)"
        browser.wait("the way back", f"document.querySelector('{back}').textContent.includes('{self.model}')")
        browser.click(back)
        browser.wait("the model before", f"{outcome}.textContent.includes('Back to {self.model}')")
        browser.click("#switch-now")
        browser.click("#setup .card:nth-child(2) button.main")
        browser.wait("the scheduled switch", f"{outcome}.textContent.includes('next block')")
        browser.type("#switch-model", "")

    def pictures(self) -> None:
        """Every view in light, dark and narrow: nothing is cut off, everything has a name."""
        browser = self.browser
        # A forced switch pauses mining for some seconds.
        browser.wait("mining again", "document.querySelector('#health').dataset.kind === 'good'")
        for scheme in ("light", "dark"):
            browser.scheme(scheme)
            for view in ("live", "proofs", "setup"):
                browser.size(1280, 800)
                browser.run(f"location.hash = '{view}'")
                browser.wait("the view", f"document.querySelector('#{view}').offsetParent !== null")
                time.sleep(1.2)
                assert browser.run(FITS), f"{view} is too wide"
                unnamed = browser.run(LABELLED)
                assert unnamed == [], f"without a name: {unnamed}"
                height = browser.run("document.documentElement.scrollHeight")
                browser.size(1280, min(height, 760 if view == "proofs" else 1500))
                browser.run("scrollTo(0, 0)")
                time.sleep(0.3)
                browser.shot(self.shots / f"ui-{view}-{scheme}.png")
        browser.run("location.hash = 'proofs'")
        browser.size(1280, 900)
        browser.wait("the list", "document.querySelectorAll('#proofs tbody tr').length >= 3")
        browser.click("#proofs tbody tr:nth-child(1) button")
        browser.wait("the picture", "document.querySelectorAll('#proof circle').length === 256")
        browser.shot(self.shots / "ui-proof-dark.png")
        browser.scheme("light")
        browser.press("Escape")
        for view in ("proofs", "setup", "live"):
            browser.size(390, 844)
            browser.run(f"location.hash = '{view}'")
            time.sleep(1.2)
            assert browser.run(FITS), f"{view} is too wide for a telephone"
        browser.size(390, browser.run("document.documentElement.scrollHeight"))
        time.sleep(0.3)
        browser.shot(self.shots / "ui-live-narrow.png")

    def clean(self) -> None:
        """No request left the worker, nothing complained, and the policy was enforced."""
        browser = self.browser

        def foreign(event: dict[str, Any]) -> bool:
            return not event["request"]["url"].startswith((f"{self.url}/", "data:"))

        left = [event["request"]["url"] for event in browser.found("Network.requestWillBeSent", foreign)]
        assert left == [], f"requests to others: {left}"
        keys = [
            event["request"]["url"]
            for event in browser.found(
                "Network.requestWillBeSent", lambda event: self.key in event["request"]["url"]
            )
        ]
        assert keys == [], "the key stands in a URL"

        def unexpected(event: dict[str, Any]) -> bool:
            entry = event["entry"]
            # Asking without a key, with a wrong one, and the refused values are part of the test.
            expected = any(f"status of {code}" in entry["text"] for code in (401, 400))
            return entry["level"] == "error" and not expected

        complaints = [event["entry"]["text"] for event in browser.found("Log.entryAdded", unexpected)]
        complaints += [str(event) for event in browser.found("Runtime.exceptionThrown", lambda _: True)]
        complaints += [
            str(event["args"])
            for event in browser.found("Runtime.consoleAPICalled", lambda event: event["type"] == "error")
        ]
        assert complaints == [], f"the console complains: {complaints}"
        blocked = browser.run(
            "new Promise((done) => { addEventListener('securitypolicyviolation', () => done(true));"
            " const s = document.createElement('style'); s.textContent = 'body{}'; document.head.append(s);"
            " setTimeout(() => done(false), 2000); })"
        )
        assert blocked, "the content security policy lets an inline style in"


def main() -> int:
    """Runs the visit."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("browser", "url", "key", "config", "model", "shots"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(arguments.browser, Path(profile))
        visit = Visit(arguments, browser)
        visit.shots.mkdir(parents=True, exist_ok=True)
        steps = (
            visit.login,
            visit.live,
            visit.theme,
            visit.proof,
            visit.wizard,
            visit.switch,
            visit.pictures,
            visit.clean,
        )
        passed = 0
        try:
            for step in steps:
                step()
                passed += 1
                print(f"ok   {step.__name__}: {step.__doc__}", flush=True)
        except (AssertionError, RuntimeError) as error:
            print(f"FAIL {steps[passed].__name__}: {error}", flush=True)
            browser.shot(visit.shots / "ui-failed.png")
            print(
                "\n".join(
                    str(event["params"])
                    for event in browser.events
                    if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")
                )
            )
        finally:
            browser.close()
    failed = 0 if passed == len(steps) else 1
    print(f"{passed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main())
