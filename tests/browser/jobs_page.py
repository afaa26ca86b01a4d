"""Drives the jobs page in a real browser, checks what people see, and takes pictures for docs/.

pip install playwright; playwright install chromium     # or give --browser a Chromium that is there
python -m tests.browser.jobs_page docs/pictures

Starts all it needs itself: an S3 server with a job store, a gateway without Ray, and workers whose renderer stands in
for the model (each of its videos is the demo's, rendered once). Prints what was seen as JSON; ends with an error at the
first thing that is not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from moto.server import ThreadedMotoServer
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ifmdm_core.errors import BadInput, Unavailable
from ifmdm_core.samples import DEMO, SAMPLES
from ifmdm_core.storage import S3Config, open_storage, s3_client
from jobs.client import JobClient
from jobs.init import first_policy, make_store
from jobs.names import tenant_key
from jobs.page import add_jobs_page
from jobs.rendering.contract import Rendered, Report, Task
from jobs.running.process import WorkerProcess
from jobs.store import JobStore
from jobs.tenants import Places
from tests.browser.studio_pages import DESK, FLAGS, PHONE
from tests.serve.gateways import Gateways

PATIENCE_MS = 60_000
NASTY = "<img src=x onerror=alert(1)>"


class DemoRenderer:
    """Every job's video is the demo's; what a job's audio is called says how it goes.

    Args:
        video: the demo's.
    """

    def __init__(self, video: Path) -> None:
        self.video = video
        self.mended, self.finish = threading.Event(), threading.Event()
        self._tried: set[str] = set()

    @contextlib.contextmanager
    def render(self, task: Task, report: Report) -> Iterator[Rendered]:
        report(0, 228)
        events = [{"time": _time(), "event": "began", "epoch": task.epoch, "bundle": task.bundle_sha256[:12]}]
        try:
            self._fault(task)
            for chunk in range(29):
                self._pause(task, chunk, report)
                report(min(228, 8 * chunk + 4), 228)
            events.append({"time": _time(), "event": "decoded", "frames": 228})
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "video.mp4")
                shutil.copyfile(self.video, path)
                data = path.read_bytes()
                events.append({"time": _time(), "event": "signed", "size": len(data)})
                busy = {"speech": 0.4, "motion": 2.2, "decoder": 17.9}
                yield Rendered(path, hashlib.sha256(data).hexdigest(), len(data), 228, 25, 20.5, busy_s=busy)
        except Exception as error:
            events.append({"time": _time(), "event": "error", "what": str(error)})
            raise
        finally:
            text = "".join(json.dumps(event) + "\n" for event in events)
            task.storage.put(f"{task.folder}/log.jsonl", text.encode())

    def _pause(self, task: Task, chunk: int, report: Report) -> None:
        """Short ones are soon over; long ones wait, half done, until they may end."""
        if "long" not in task.audio.key:
            time.sleep(0.03)
            return
        time.sleep(0.3)
        while chunk == 14 and not self.finish.wait(0.3):
            report(8 * chunk, 228)

    def _fault(self, task: Task) -> None:
        if "group" in task.portrait.key and not self.mended.is_set():
            raise BadInput(
                "portrait s3://faces/group.jpg has no face that can be used", fix="take a photo with one face"
            )
        if "flaky" in task.audio.key and task.id not in self._tried:
            self._tried.add(task.id)
            raise Unavailable("the stage frame-decoder does not answer", fix="it is tried again")


def _time() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000+00:00", time.gmtime())


class Scene:
    """A store with jobs, workers, and a gateway that shows it.

    Args:
        folder: for all of it.
        video: the demo's.
    """

    def __init__(self, folder: Path, video: Path) -> None:
        os.environ.update(AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test")
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        self.s3 = S3Config(endpoint=f"http://{host}:{port}", region="us-east-1")
        s3_client(self.s3).create_bucket(Bucket="studio")
        storage, bucket = open_storage("s3://studio/jobs", self.s3), open_storage("s3://studio", self.s3)
        make_store(JobStore(storage, "operator"))
        policy = first_policy(storage.root, "default", folder)
        storage.put(tenant_key("default"), policy.model_dump_json().encode())
        for name in ("ann", "ben", "cem", "group"):
            bucket.put(f"faces/{name}.jpg", (SAMPLES / "astronaut.jpg").read_bytes())
        for name in ("hello", "long", "flaky"):
            bucket.put(f"speech/{name}.flac", (SAMPLES / "speech.flac").read_bytes())
        self.client = JobClient(storage.root, s3=self.s3, by="maya@laptop")
        self.renderer = DemoRenderer(video)
        self.workers = [
            WorkerProcess(
                storage,
                Places(self.s3),
                self.renderer,
                name=f"gpu-{number}.4f1c",
                host=f"gpu-{number}",
                takeover_s=6,
            )
            for number in (1, 2)
        ]
        self.threads = [threading.Thread(target=worker.run, daemon=True) for worker in self.workers]
        self.gateways = Gateways(folder, DEMO)
        path, self.tokens = self.gateways.tokens(default={}, boss={"scopes": ["admin"]})
        page = partial(add_jobs_page, root=str(storage.root), s3=self.s3)
        stages: Any = object()  # nothing is rendered here
        self.url = self.gateways.start(f"gateway.tokens={path}", stages=stages, pages=(page,)).url

    def submit(self, face: str, speech: str, name: str, **fields: Any) -> str:
        done = self.client.submit(
            portrait=f"s3://studio/faces/{face}.jpg", audio=f"s3://studio/speech/{speech}.flac",
            output=f"s3://studio/videos/{name}.mp4", **fields,
        )  # fmt: skip
        return done.ref.id

    def running(self, *ids: str) -> None:
        """Waits until these run."""
        while any(self.client.get(id).state.state != "running" for id in ids):
            time.sleep(0.3)

    def fill(self) -> dict[str, str]:
        """Jobs of all kinds; some have ended, two run, the others wait for these."""
        spring = {"campaign": "spring", "team": "blue"}
        ids = {"done": self.submit("ann", "hello", "spring/ann-hello", labels=spring)}
        self.submit("ben", "hello", "spring/ben-hello", labels=spring)
        ids["failed"] = self.submit("group", "hello", "spring/group-hello", labels=spring)
        ids["flaky"] = self.submit("cem", "flaky", "autumn/cem-hello", labels={"campaign": "autumn"})
        ids["nasty"] = self.submit("cem", "hello", "autumn/cem-nasty", labels={"note": NASTY})
        for thread in self.threads:
            thread.start()
        for name in ("done", "failed", "nasty", "flaky"):
            self.client.wait(ids[name], 90)
        ids["held"] = self.submit(
            "ben", "hello", "autumn/ben-held", labels={"campaign": "autumn"}, not_before=4e9
        )
        self.client.suspend(ids["held"])
        ids["long"] = self.submit("ann", "long", "summer/ann-keynote", labels={"campaign": "summer"})
        ids["long2"] = self.submit("ben", "long", "summer/ben-keynote", labels={"campaign": "summer"})
        self.running(ids["long"], ids["long2"])
        for number in range(6):
            ids[f"waiting{number}"] = self.submit(
                "cem", "hello", f"summer/cem-{number + 1:02d}", priority=3 if number == 5 else 0
            )
        self.submit("ann", "hello", "winter/ann-later", not_before=time.time() + 7200)
        return ids

    def close(self) -> None:
        """Ends all of it."""
        self.renderer.finish.set()
        for worker in self.workers:
            worker.leave()
        for thread in self.threads:
            thread.join(60)
        self.gateways.close()
        self.server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="Drive the jobs page and picture it.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--browser", help="path of a Chromium; default: playwright's own")
    parser.add_argument("--video", type=Path, help="the demo's video; default: it is rendered first")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ifmdm-jobs-page-") as folder:
        scene = Scene(Path(folder), given.video or _demo(Path(folder)))
        try:
            ids = scene.fill()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=given.browser, args=list(FLAGS))
                report["browser"] = browser.version
                for name, check in (
                    ("login", login), ("table", table), ("job", job), ("cancel", cancel), ("retry", retry),
                    ("keyboard", keyboard), ("trouble", trouble), ("phone", phone), ("dark", dark), ("live", live),
                ):  # fmt: skip
                    page = _page(browser, scene, name)
                    report[name] = check(page, scene, ids, given.out)
                    assert not page.faults, (name, page.faults)  # type: ignore[attr-defined]
                    page.context.close()
                browser.close()
        finally:
            scene.close()
    print(json.dumps(report, indent=1))


def login(page: Page, scene: Scene, ids: dict[str, str], out: Path) -> dict[str, Any]:
    """Who has no token is asked for one, and comes back to the page."""
    page.context.clear_cookies()
    page.goto(f"{scene.url}/jobs")
    page.get_by_label("Token").fill(scene.tokens["default"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Render jobs")).to_be_visible(timeout=PATIENCE_MS)
    return {"at": page.url.removeprefix(scene.url)}


def table(page: Page, scene: Scene, ids: dict[str, str], out: Path) -> dict[str, Any]:
    """All jobs; filters by state, text and label; what comes from users is text."""
    rows = page.locator("#rows tr")
    expect(rows).to_have_count(15, timeout=PATIENCE_MS)
    expect(page.locator("#rows progress").first).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("#rows tr", has_text="cem-nasty")).to_contain_text(NASTY)
    page.screenshot(path=out / "jobs-table.png", full_page=True)
    counts = {}
    for name, count in (
        ("Waiting", 7),
        ("Running", 2),
        ("Failed", 1),
        ("Stopped", 1),
        ("Published", 4),
        ("All", 15),
    ):
        page.locator("#states label", has_text=name).click()
        expect(rows).to_have_count(count, timeout=PATIENCE_MS)
        counts[name] = count
    search = page.get_by_role("searchbox")
    search.fill("keynote")
    expect(rows).to_have_count(2, timeout=PATIENCE_MS)
    search.fill("campaign=autumn")
    expect(page.get_by_role("link", name="ben-held.mp4")).to_be_visible(timeout=PATIENCE_MS)
    expect(rows).to_have_count(2)
    page.reload()
    expect(rows).to_have_count(2, timeout=PATIENCE_MS)  # the address remembers
    expect(search).to_have_value("campaign=autumn")
    search.fill("nothing-like-that")
    expect(page.locator("#empty")).to_have_text("No job is like that.", timeout=PATIENCE_MS)
    return {"rows": counts, "summary": page.locator("#summary").inner_text()}


def job(page: Page, scene: Scene, ids: dict[str, str], out: Path) -> dict[str, Any]:
    """One job: its life, its video plays, its log."""
    page.get_by_role("link", name="ann-hello.mp4").click()
    dialog = page.locator("#job")
    expect(dialog.get_by_text("video made: 228 frames")).to_be_visible(timeout=PATIENCE_MS)
    video = dialog.locator("video")
    video.evaluate("video => { video.muted = true; return video.play(); }")
    _until(page, lambda: video.evaluate("video => video.currentTime") > 0.5)
    video.evaluate("video => { video.pause(); video.currentTime = 2; }")
    dialog.get_by_text("Attempt 1", exact=True).click()
    expect(dialog.locator("pre")).to_contain_text("decoded", timeout=PATIENCE_MS)
    page.wait_for_timeout(500)
    page.screenshot(path=out / "jobs-job.png")
    life = dialog.locator(".life .what").all_inner_texts()
    page.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    page.goto(f"{scene.url}/jobs#default/{ids['flaky']}")  # an address of its own
    expect(dialog).to_contain_text(
        "attempt 1 failed: the stage frame-decoder does not answer", timeout=PATIENCE_MS
    )
    expect(dialog).to_contain_text("attempt 2 begins")
    page.goto(f"{scene.url}/jobs#default/{'0' * 32}")
    expect(page.locator("#job-trouble")).to_contain_text("there is no job", timeout=PATIENCE_MS)
    return {"life": life}


def cancel(page: Page, scene: Scene, ids: dict[str, str], out: Path) -> dict[str, Any]:
    """A waiting job says what it waits for; it is cancelled only when that is confirmed."""
    row = page.locator("#rows tr", has_text="cem-01")
    row.get_by_role("button", name="Cancel").click()
    ask = page.locator("#ask")
    expect(ask).to_contain_text("Cancel “cem-01.mp4”?")
    expect(page.locator("#ask-no")).to_be_focused()
    page.keyboard.press("Enter")
    expect(ask).to_be_hidden()
    assert scene.client.get(ids["waiting0"]).state.state == "queued"
    row.get_by_role("link").click()
    dialog = page.locator("#job")
    expect(dialog.locator(".reasons")).to_contain_text("of its tenant goes first", timeout=PATIENCE_MS)
    dialog.get_by_role("button", name="Cancel").click()
    ask.get_by_role("button", name="Cancel the job").click()
    expect(dialog.locator(".state")).to_have_text("cancelled", timeout=PATIENCE_MS)
    assert scene.client.get(ids["waiting0"]).state.state == "cancelled"
    return {"said": page.locator("#said").inner_text()}


def retry(page: Page, scene: Scene, ids: dict[str, str], out: Path) -> dict[str, Any]:
    """What failed says why; it is retried, and waits."""
    row = page.locator("#rows tr", has_text="group-hello")
    expect(row).to_contain_text("has no face that can be used", timeout=PATIENCE_MS)
    scene.renderer.mended.set()
    row.get_by_role("button", name="Retry").click()
    page.locator("#ask").get_by_role("button", name="Retry the job").click()
    expect(row.locator(".state")).to_have_text("queued", timeout=PATIENCE_MS)
    return {"kinds": [entry.kind for entry in scene.client.store.log(scene.client.ref(ids["failed"]))]}


def keyboard(page: Page, scene: Scene, ids: dict[str, str], out: Path) -> dict[str, Any]:
    """A search, a job and back with the keyboard alone; the focus stays while the table lives."""
    page.locator("#rows tr").first.wait_for(timeout=PATIENCE_MS)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("cem-02")
    expect(page.locator("#rows tr")).to_have_count(1, timeout=PATIENCE_MS)
    page.keyboard.press("Tab")
    link = page.get_by_role("link", name="cem-02.mp4")
    expect(link).to_be_focused()
    page.wait_for_timeout(5000)  # two refreshes
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#job")).to_be_visible()
    expect(page.locator("#job .facts")).to_be_visible(timeout=PATIENCE_MS)
    page.keyboard.press("Escape")
    expect(page.locator("#job")).to_be_hidden()
    expect(link).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Cancel cem-02.mp4")).to_be_focused()
    return {"focus": "kept"}


def trouble(page: Page, scene: Scene, ids: dict[str, str], out: Path) -> dict[str, Any]:
    """A server that does not answer, and refusals, are said; then it goes on by itself."""
    page.locator("#rows tr").first.wait_for(timeout=PATIENCE_MS)
    page.route("**/jobs/table*", lambda route: route.abort())
    alert = page.locator("#trouble")
    expect(alert).to_contain_text("the server does not answer", timeout=PATIENCE_MS)
    said = [alert.inner_text()]
    page.unroute("**/jobs/table*")
    expect(alert).to_be_hidden(timeout=PATIENCE_MS)
    row = page.locator("#rows tr", has_text="cem-03")
    row.get_by_role("button", name="Cancel").click()
    scene.client.cancel(ids["waiting2"])
    scene.client.store.storage.delete(
        scene.client.ref(ids["waiting2"]).spec
    )  # gone while the question is open
    page.locator("#ask").get_by_role("button", name="Cancel the job").click()
    expect(alert).to_contain_text("there is no job", timeout=PATIENCE_MS)
    said.append(alert.inner_text())
    page.wait_for_timeout(5000)
    expect(alert).to_contain_text("there is no job")  # the next looks do not wipe it away
    page.screenshot(path=out / "jobs-error.png")
    return {"said": said}


def phone(page: Page, scene: Scene, ids: dict[str, str], out: Path) -> dict[str, Any]:
    """At 390 pixels nothing sticks out."""
    page.locator("#rows tr").first.wait_for(timeout=PATIENCE_MS)
    page.wait_for_timeout(500)
    page.screenshot(path=out / "jobs-phone.png")
    widths = [page.evaluate("document.documentElement.scrollWidth")]
    page.get_by_role("link", name="ann-hello.mp4").click()
    expect(page.locator("#job video")).to_be_visible(timeout=PATIENCE_MS)
    widths.append(page.evaluate("document.querySelector('#job').scrollWidth"))
    assert max(widths) <= PHONE["width"], widths
    return {"scroll_widths": widths}


def dark(page: Page, scene: Scene, ids: dict[str, str], out: Path) -> dict[str, Any]:
    """An admin sees everybody's jobs, here at night."""
    expect(page.get_by_label("Tenant")).to_be_visible(timeout=PATIENCE_MS)
    return {"tenants": page.get_by_label("Tenant").locator("option").all_inner_texts()}


def live(page: Page, scene: Scene, ids: dict[str, str], out: Path) -> dict[str, Any]:
    """What runs goes on before one's eyes until it is published, without a reload."""
    row = page.locator("#rows tr", has_text="ann-keynote")
    row.get_by_role("link").click()
    expect(page.locator("#job progress")).to_be_visible(timeout=PATIENCE_MS)
    scene.renderer.finish.set()
    dialog = page.locator("#job")
    expect(dialog.locator(".state")).to_have_text("published", timeout=2 * PATIENCE_MS)
    expect(dialog.locator("video")).to_be_visible(timeout=PATIENCE_MS)
    page.keyboard.press("Escape")
    expect(row.locator(".state")).to_have_text("published", timeout=PATIENCE_MS)
    return {"summary": page.locator("#summary").inner_text()}


def _page(browser: Browser, scene: Scene, name: str) -> Page:
    context = browser.new_context(
        viewport=PHONE if name == "phone" else DESK,  # type: ignore[arg-type]
        color_scheme="dark" if name == "dark" else "light",
        locale="en-GB",
    )
    token = scene.tokens["boss" if name == "dark" else "default"]
    context.add_cookies([{"name": "ifmdm_token", "value": token, "url": scene.url}])
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda shown: faults.append(f"a dialog: {shown.message}"))
    # Refusals and aborted requests are told there as well; those are expected.
    page.on("console", lambda told: faults.append(told.text) if "Content Security" in told.text else None)
    page.faults = faults  # type: ignore[attr-defined]
    page.goto(f"{scene.url}/jobs")
    return page


def _until(page: Page, holds: Callable[[], bool]) -> None:
    """Looks again and again; the page's own policy forbids Playwright to evaluate a string there."""
    for _ in range(PATIENCE_MS // 100):
        if holds():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not come to that")


def _demo(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "infra.cli", "demo", "--out", str(folder / "demo")], check=True)
    return folder / "demo" / "demo.mp4"


if __name__ == "__main__":
    main()
