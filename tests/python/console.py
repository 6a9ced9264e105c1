"""The console in a headless Chromium, as people use it.

`console.py BASE SCREENSHOTS`: BASE is the address of an `up` with documents, a user called ada and one dead
letter whose document is mended, a backfill that was switched, and a canary. Ends with 0 and one line of JSON, or says what is wrong.
"""

import json
import pathlib
import shutil
import sys
import time

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

PAGES = {
    "overview": "/console/",
    "topics": "/console/topics",
    "records": "/console/topics/signals",
    "groups": "/console/groups",
    "reset": "/console/groups/reset?group=mine&to=earliest&topic=documents",
    "dead-letters": "/console/dead-letters",
    "plan": "/console/dead-letters/order?act=replay",
    "search": "/console/search?q=a+planet+with+water&bm25=0.9&vector=0.1",
    "recommendations": "/console/recommendations?user=ada&count=5",
    "models": "/console/models",
    "rollouts": "/console/rollouts",
    "canary": "/console/canary",
    "not-here": "/console/topics/none-such",
}
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 800}
MAX_FIRST_VIEW_BYTES = 300_000


def check(condition, message):
    if not condition:
        sys.exit(f"console.py: {message}")


def visitor(browser, complaints, **options):
    """A window whose errors, those of the content security policy included, are kept."""
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(20_000)

    def heard(message):
        # A page that is not there says so with its status.
        if message.type == "error" and "404" not in message.text:
            complaints.append(f"{page.url}: {message.text}")

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    return page


def accessible(page, name):
    found = Axe().run(page).response["violations"]
    bad = [it for it in found if it["impact"] in ("serious", "critical")]
    told = [f"{it['id']} ({it['impact']}): {[node['html'] for node in it['nodes'][:3]]}" for it in bad]
    check(not bad, f"axe on {name}: {told}")


def every_page(browser, base, screenshots, complaints):
    for look, options in {
        "light": {"viewport": DESKTOP, "color_scheme": "light"},
        "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
        "phone-dark": {"viewport": PHONE, "color_scheme": "dark", "has_touch": True},
    }.items():
        page = visitor(browser, complaints, **options)
        papers = set()
        for name, path in PAGES.items():
            page.goto(base + path)
            expect(page.locator("h1")).to_have_count(1)
            # Opened, so that what is inside is looked at too.
            page.evaluate("[...document.querySelectorAll('details')].slice(0, 3).forEach(it => it.open = true)")
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            check(wide <= 0, f"{name} ({look}) is {wide} pixels wider than the screen")
            accessible(page, f"{name} ({look})")
            papers.add(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=screenshots / f"{name}-{look}.png")
        check(len(papers) == 1, f"{look}: papers of {papers}")
        dark = papers == {"rgb(16, 25, 29)"}
        check(dark == look.endswith("dark"), f"{look} has {papers}")
        page.context.close()


def by_keyboard(browser, base, complaints):
    page = visitor(browser, complaints, viewport=DESKTOP)
    page.goto(base + "/console/")
    order = []
    for _ in range(13):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.textContent.trim()"))
        seen = page.evaluate(
            """() => { const it = document.activeElement, style = getComputedStyle(it), box = it.getBoundingClientRect();
            return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && box.left >= 0 && box.width > 0; }"""
        )
        check(seen, f"the focus on {order[-1]!r} can't be seen")
    expected = ["Skip to the content", "Millrace", "Overview", "Topics", "Groups", "Dead letters", "Search",
                "Recommendations", "Models", "Rollouts", "Canary", "Pause live figures", "Look again"]
    check(order == expected, f"Tab goes {order}")
    page.goto(base + "/console/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    check(page.evaluate("document.activeElement.id") == "content", "the skip link does not skip")
    page.context.close()


def live_figures(browser, base, complaints):
    page = visitor(browser, complaints, viewport=DESKTOP)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "flow.json" in request.url else None)
    page.goto(base + "/console/")
    rate = page.locator('td[data-figure="rate documents"]')
    with page.expect_response("**/flow.json"):
        pass
    expect(rate).not_to_have_text("–/s")
    drawn = page.locator('svg text[data-figure="topic documents"]')
    expect(drawn).to_contain_text(page.locator('td[data-figure="records documents"]').inner_text())
    summary = page.locator("[data-summary]")
    check(summary.get_attribute("aria-live") == "polite", "the summary is not said")
    page.get_by_role("button", name="Pause live figures").click()
    expect(page.get_by_role("button", name="Go on with live figures")).to_be_visible()
    page.wait_for_load_state("networkidle")
    before = len(asked)
    # Longer than two looks are apart: what is measured is that nothing happens.
    page.wait_for_timeout(4_500)
    check(len(asked) == before, f"{len(asked) - before} looks while paused")
    with page.expect_response("**/flow.json"):
        page.get_by_role("button", name="Go on with live figures").click()
    page.context.close()


def sliders(browser, base, screenshots, complaints):
    page = visitor(browser, complaints, viewport=DESKTOP)
    page.goto(base + "/console/search")
    page.get_by_label("Words or a question").fill("how light of far away stars is bent")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="In force")).to_be_visible()
    expect(page.locator("section[aria-labelledby=tried] li")).to_have_count(10)
    expect(page.locator("#rankings")).to_contain_text("Both rankings are the same.")
    words, meaning = page.locator("#bm25"), page.locator("#vector")
    words.focus()
    for _ in range(14):
        page.keyboard.press("ArrowRight")
    expect(page.locator("output[for=bm25]")).to_have_text("1.00")
    expect(page.locator("output[for=vector]")).to_have_text("0.00")
    expect(page.locator("section[aria-labelledby=tried] .hint")).to_contain_text("words 1.00, meaning 0.00")
    check(meaning.input_value() in ("0", "0.00"), f"the other slider is at {meaning.input_value()}")
    # Both lists are there, and what moved is marked.
    expect(page.locator("section[aria-labelledby=tried] .mark").first).to_be_visible()
    told = page.locator("#ranked").inner_text()
    check("elsewhere" in told, f"it says {told!r}")
    check("bm25=1" in page.url, "the address does not have the weights")
    accessible(page, "the sliders")
    page.screenshot(path=screenshots / "sliders.png")
    page.context.close()


def walk_through(browser, base, screenshots, complaints):
    """From a search that does not find a document to a pipeline in which nothing waits."""
    page = visitor(browser, complaints, viewport=DESKTOP)
    page.goto(base + "/console/search?q=flightless+birds+in+the+cold")
    expect(page.locator("section[aria-labelledby=tried] li").first).to_be_visible()
    check(page.get_by_text("birds.txt").count() == 0, "what failed is found")
    page.get_by_role("link", name="Dead letters", exact=True).click()
    expect(page.get_by_text("1 open dead letter,")).to_be_visible()
    letter = page.locator("details", has_text="birds.txt").first
    letter.locator("summary").click()
    expect(letter).to_contain_text("birds.txt")
    page.screenshot(path=screenshots / "walk-why.png")
    page.get_by_role("button", name="Plan a replay").click()
    expect(page.get_by_text("Nothing was done yet.")).to_be_visible()
    page.screenshot(path=screenshots / "redrive-plan.png")
    page.get_by_role("button", name="Replay 1").click()
    expect(page.get_by_role("status")).to_have_text("1 of 1 dead letters were replayed.")
    accessible(page, "the redrive")
    page.screenshot(path=screenshots / "redrive-done.png")
    page.get_by_role("link", name="What is still open").click()
    expect(page.get_by_text("No open dead letters match.")).to_be_visible()
    deadline = time.monotonic() + 60
    while True:
        page.goto(base + "/console/search?q=flightless+birds+in+the+cold")
        if page.get_by_text("birds.txt").count() > 0:
            break
        check(time.monotonic() < deadline, "what was replayed is not found")
    page.screenshot(path=screenshots / "walk-found.png")
    while True:
        page.goto(base + "/console/groups")
        vectorizer = page.get_by_role("region", name="Consumer groups").get_by_role("row").filter(has_text="vectorizer")
        waiting = [row.locator("td").nth(2).inner_text() for row in vectorizer.all()]
        check(waiting, "no group of a vectorizer is shown")
        if set(waiting) == {"0"}:
            break
        check(time.monotonic() < deadline, f"records wait still: {waiting}")
    page.screenshot(path=screenshots / "walk-caught-up.png")
    page.context.close()


def way_back(browser, base, screenshots, complaints):
    """A generation that was switched to, and back again."""
    page = visitor(browser, complaints, viewport=DESKTOP)
    page.goto(base + "/console/rollouts")
    expect(page.get_by_role("heading", name="Backfill of generation 2: switched")).to_be_visible()
    gates = page.get_by_role("region", name="Gates")
    expect(gates.get_by_role("row").filter(has_text="coverage")).to_contain_text("passed")
    shown = page.locator("input[name=shown]").get_attribute("value")
    page.get_by_role("button", name="Go back to generation 1").click()
    expect(page.get_by_role("heading", name="Backfill of generation 2: rolled back")).to_be_visible()
    expect(page.get_by_role("button", name="Go back to generation 1")).to_have_count(0)
    accessible(page, "a rollout that went back")
    # Sent once more from a page that was shown before, it does nothing.
    answer = page.request.post(base + "/console/rollouts/rollback", form={"shown": shown, "csrf": "x"})
    check(answer.status == 403, f"a forged order is answered with {answer.status}")
    page.context.close()


def canary(browser, base, screenshots, complaints):
    page = visitor(browser, complaints, viewport=DESKTOP)
    page.goto(base + "/console/canary")
    expect(page.get_by_role("status")).to_contain_text("found after")
    expect(page.get_by_role("img")).to_be_visible()
    page.context.close()


def publishing(browser, base, complaints):
    page = visitor(browser, complaints, viewport=PHONE, has_touch=True)
    page.goto(base + "/console/topics/users")
    page.get_by_text("Publish a test record").click()
    page.get_by_label("Key", exact=True).fill("grace")
    page.get_by_label("Value").fill("<b>bold</b>")
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_role("status")).to_contain_text("The record was published")
    expect(page.locator("pre")).to_have_text("<b>bold</b>")
    accessible(page, "a record")
    page.context.close()


def without_script(browser, base, complaints):
    page = visitor(browser, complaints, java_script_enabled=False)
    page.goto(base + "/console/")
    expect(page.get_by_role("button", name="Pause live figures")).to_be_hidden()
    page.get_by_role("link", name="Search", exact=True).click()
    page.get_by_label("Words or a question").fill("roses")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("section[aria-labelledby=tried] li").first).to_be_visible()
    page.context.close()


def first_view(browser, base):
    """Bytes of all that the first view loads, and the fastest of some loads with an empty cache, in ms."""
    fastest, size = None, 0
    for _ in range(5):
        page = browser.new_context(viewport=DESKTOP).new_page()
        responses = []
        page.on("response", lambda response: responses.append(response))
        page.goto(base + "/console/", wait_until="load")
        took = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        size = sum(len(response.body()) for response in responses if response.url.startswith("http"))
        fastest = took if fastest is None else min(fastest, took)
        page.context.close()
    check(size < MAX_FIRST_VIEW_BYTES, f"the first view is {size} bytes")
    return {"first_view_bytes": size, "first_view_ms": round(fastest, 1)}


def main():
    base, screenshots = sys.argv[1], pathlib.Path(sys.argv[2])
    screenshots.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium")
    check(chromium, "chromium is missing; install it: apt-get install --no-install-recommends chromium")
    complaints = []
    with sync_playwright() as playwright:
        # Containers have neither user namespaces nor much shared memory.
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        measured = first_view(browser, base)
        every_page(browser, base, screenshots, complaints)
        by_keyboard(browser, base, complaints)
        live_figures(browser, base, complaints)
        sliders(browser, base, screenshots, complaints)
        publishing(browser, base, complaints)
        without_script(browser, base, complaints)
        canary(browser, base, screenshots, complaints)
        way_back(browser, base, screenshots, complaints)
        walk_through(browser, base, screenshots, complaints)
        browser.close()
    check(not complaints, f"the browser complains: {complaints}")
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
