"""Debian's Chromium, headless: a page, and then what its script asks for in turn. The credentials are given when it asks for them, as
a person would."""

from playwright.sync_api import sync_playwright

from answers import arguments, report

ASK = """async url => {
    const response = await fetch(url, {cache: "no-store"});
    await response.text();
    return [response.status, response.headers.get("X-Identity") ?? "", response.headers.get("X-Connection") ?? ""];
}"""

url, user, password, count = arguments()
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path="/usr/bin/chromium",
        # Its own sandbox is not for root; no proxy of the environment, no names asked of the network.
        args=["--no-sandbox", "--no-proxy-server", "--disable-background-networking"],
    )
    context = browser.new_context(
        http_credentials={"username": user, "password": password},
        # Chromium believes what the system does, which the certificates of tests are no part of.
        ignore_https_errors=True,
    )
    page = context.new_page()
    answer = page.goto(url, wait_until="networkidle")
    names = ("X-Identity", "X-Connection")
    report(answer.status, {name: answer.header_value(name) or "" for name in names})
    for _ in range(count - 1):
        status, identity, connection = page.evaluate(ASK, url)
        report(status, dict(zip(names, (identity, connection))))
    browser.close()
