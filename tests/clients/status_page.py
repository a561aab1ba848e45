"""Debian's Chromium, headless, as a test drives it: a command on each line of standard input, an answer on each of standard output, both
as JSON.

[what, argument …], where what is
    open WIDTH HEIGHT SCHEME URL   a new page, in light or dark
    wait EXPRESSION                until it is true; its value
    value EXPRESSION               its value now
    press KEY                      on the keyboard
    shot PATH HEIGHT               a picture of the page, or of so much of it
    problems                       what the console said and what was asked of others, since the last time
"""

import json
import sys
import time
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

PATIENCE_S = 20


def watch(page, origin, problems):
    """Notes what a page of the front must not do."""

    def asked(request):
        if request.url.startswith("data:"):
            return
        if "{0.scheme}://{0.netloc}".format(urlsplit(request.url)) != origin:
            problems.append("asked for " + request.url)

    page.on("console", lambda message: problems.append("console: " + message.text))
    page.on("pageerror", lambda error: problems.append("error: " + str(error)))
    page.on("request", asked)


def wait(page, expression):
    """Playwright's own waiting evaluates texts in the page, which its policy forbids."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        if result := page.evaluate(expression):
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE_S} s: {expression}\n{page.inner_text('body')}")
        page.wait_for_timeout(50)


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path="/usr/bin/chromium",
        # Its own sandbox is not for root; no proxy of the environment, no names asked of the network.
        args=["--no-sandbox", "--no-proxy-server", "--disable-background-networking"],
    )
    page, problems = None, []
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        result = None
        if what == "open":
            width, height, scheme, url = arguments
            if page:
                page.context.close()
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
            )
            page = context.new_page()
            page.set_default_timeout(PATIENCE_S * 1000)
            watch(page, "{0.scheme}://{0.netloc}".format(urlsplit(url)), problems)
            result = page.goto(url).status
        elif what == "wait":
            result = wait(page, arguments[0])
        elif what == "value":
            result = page.evaluate(arguments[0])
        elif what == "press":
            page.keyboard.press(arguments[0])
        elif what == "shot":
            path, most = arguments
            height = min(most, page.evaluate("document.documentElement.scrollHeight"))
            clip = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": height}
            page.screenshot(path=path, full_page=True, clip=clip)
        elif what == "problems":
            result, problems[:] = list(problems), []
        print(json.dumps(result), flush=True)
    browser.close()
