"""Drives a running Studio in a real browser, checks what people see, and takes pictures for docs/.

pip install playwright; playwright install chromium     # or give --browser a Chromium that is there
ifmdm serve
python -m tests.browser.studio_pages http://127.0.0.1:8000 docs/pictures

Uses the bundled sample only. Prints what was seen as JSON; ends with an error at the first thing that is not as it
should be.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

SAMPLES = Path(__file__).parent.parent.parent / "ifmdm_core" / "assets" / "samples"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",
)
PATIENCE_MS = 180_000
NOTE_JUMPS = """() => {
  const video = document.querySelector("#ifmdm-video");
  let before = 0;
  window.jumps = [];
  video.addEventListener("timeupdate", () => {
    if (video.currentTime < before - 0.05) window.jumps.push([before, video.currentTime]);
    before = video.currentTime;
  });
}"""
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 1120}


def main() -> None:
    parser = argparse.ArgumentParser(description="Drive a running Studio and picture it.")
    parser.add_argument("server")
    parser.add_argument("out", type=Path)
    parser.add_argument("--browser", help="path of a Chromium; default: playwright's own")
    parser.add_argument("--token", help="where the service asks for one")
    parser.add_argument("--speech", type=Path, default=SAMPLES / "speech.flac")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.browser, args=list(FLAGS))
        report["browser"] = browser.version
        for name, check in (
            ("errors", errors),
            ("watch", watch),
            ("stop", stop),
            ("microphone", microphone),
            ("keyboard", keyboard),
            ("phone", phone),
        ):
            page = _page(browser, arguments.server, arguments.token, PHONE if name == "phone" else DESK)
            report[name] = check(page, arguments)
            report[name]["scripts_failed"] = page.faults  # type: ignore[attr-defined]
            assert not page.faults, page.faults  # type: ignore[attr-defined]
            page.context.close()
        browser.close()
    print(json.dumps(report, indent=1))


def errors(page: Page, given: argparse.Namespace) -> dict[str, Any]:
    """Nothing given; a text instead of a photo."""
    page.get_by_role("button", name="Render").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("there is no portrait", timeout=PATIENCE_MS)
    said = [alert.inner_text()]
    fake = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": b"this is not a picture"}
    page.locator("#ifmdm-portrait input[type=file]").set_input_files([fake])  # type: ignore[list-item]
    page.locator("#ifmdm-speech input[type=file]").set_input_files(given.speech)
    _speech_is_there(page)
    page.get_by_role("button", name="Render").click()
    expect(alert).to_contain_text("photo.jpg", timeout=PATIENCE_MS)
    said.append(alert.inner_text())
    page.screenshot(path=given.out / "studio-error.png")
    return {"said": said}


def watch(page: Page, given: argparse.Namespace) -> dict[str, Any]:
    """Upload, render, watch while it is rendered, and fetch the signed file."""
    _upload(page, given.speech)
    began = time.monotonic()
    page.get_by_role("button", name="Render").click()
    page.locator("#ifmdm-video").wait_for(timeout=PATIENCE_MS)
    page.evaluate(NOTE_JUMPS)
    page.wait_for_function("document.querySelector('#ifmdm-video').currentTime > 0.2", timeout=PATIENCE_MS)
    plays_after = time.monotonic() - began
    rendered = page.evaluate("document.querySelector('#ifmdm-message progress')?.value")  # none: it is done
    page.wait_for_timeout(1500)
    page.screenshot(path=given.out / "studio-playing.png")
    done = _done(page)
    seconds, frames = time.monotonic() - began, int(done.split()[1])
    page.wait_for_function("document.querySelector('#ifmdm-video').ended", timeout=PATIENCE_MS)
    jumps = page.evaluate("window.jumps")
    assert not jumps, f"the video jumped back: {jumps}"
    duration = page.evaluate("document.querySelector('#ifmdm-video').currentTime")
    assert abs(duration - frames / 25) < 0.1, f"{duration} s were played, {frames} frames rendered"
    page.screenshot(path=given.out / "studio-done.png", full_page=True)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the signed file").click()
    from serve.verify import verify

    verdict = verify(download.value.path())
    assert verdict.good, verdict
    return {
        "plays_after_s": round(plays_after, 2),
        "rendered_when_it_began_to_play": f"{frames if rendered is None else rendered} of {frames} frames",
        "done_after_s": round(seconds, 2),
        "done": done,
        "signed_file": verdict.manifest,
        "played_s": duration,
    }


def stop(page: Page, given: argparse.Namespace) -> dict[str, Any]:
    """Stop while it renders."""
    _upload(page, given.speech)
    page.get_by_role("button", name="Render").click()
    page.locator("#ifmdm-video").wait_for(timeout=PATIENCE_MS)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#ifmdm-message")).to_contain_text("Stopped", timeout=PATIENCE_MS)
    return {"said": page.locator("#ifmdm-message").inner_text()}


def microphone(page: Page, given: argparse.Namespace) -> dict[str, Any]:
    """Two seconds from the browser's (beeping) microphone."""
    page.locator("#ifmdm-portrait input[type=file]").set_input_files(SAMPLES / "astronaut.jpg")
    speech = page.locator("#ifmdm-speech")
    speech.get_by_role("button", name="Record audio").click()
    speech.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(2500)
    speech.get_by_role("button", name="Stop").first.click()
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="Render").click()
    return {"done": _done(page)}


def keyboard(page: Page, given: argparse.Namespace) -> dict[str, Any]:
    """The sample and a render with Tab, arrows, Space and Enter alone."""
    page.locator("body").press("Tab")
    reached = []
    for _ in range(60):
        name = page.evaluate(
            "(e => e.id || e.getAttribute('aria-label') || e.textContent?.trim().slice(0, 30) || e.type)"
            "(document.activeElement)"
        )
        reached.append(name)
        if name == "ifmdm-sample":
            page.keyboard.press("Enter")
            _speech_is_there(page)
        if name == "ifmdm-render":
            page.keyboard.press("Enter")
            break
        page.keyboard.press("Tab")
    assert reached[-1] == "ifmdm-render", reached
    return {"reached": reached, "done": _done(page)}


def phone(page: Page, given: argparse.Namespace) -> dict[str, Any]:
    """At 390 pixels nothing sticks out."""
    _upload(page, given.speech)
    page.get_by_role("button", name="Render").click()
    done = _done(page)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"], f"the page is {width} pixels wide"
    page.screenshot(path=given.out / "studio-phone.png", full_page=True)
    return {"done": done, "scroll_width": width}


def _page(browser: Browser, server: str, token: str | None, size: Any) -> Page:
    context = browser.new_context(viewport=size, accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)  # pictures too wait on a busy machine
    if token:
        context.add_cookies([{"name": "ifmdm_token", "value": token, "url": server}])
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.faults = faults  # type: ignore[attr-defined]
    page.goto(f"{server}/studio/")
    page.get_by_role("button", name="Render").wait_for(timeout=PATIENCE_MS)
    return page


def _upload(page: Page, speech: Path) -> None:
    page.locator("#ifmdm-portrait input[type=file]").set_input_files(SAMPLES / "astronaut.jpg")
    page.locator("#ifmdm-speech input[type=file]").set_input_files(speech)
    _speech_is_there(page)


def _speech_is_there(page: Page) -> None:
    page.locator("#ifmdm-portrait img").first.wait_for(timeout=PATIENCE_MS)
    page.locator("#ifmdm-speech").get_by_role("button", name="Play").first.wait_for(timeout=PATIENCE_MS)


def _done(page: Page) -> str:
    message = page.locator("#ifmdm-message")
    expect(message).to_contain_text("Done", timeout=PATIENCE_MS)
    return message.inner_text()


if __name__ == "__main__":
    main()
