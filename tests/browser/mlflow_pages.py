"""Takes pictures of a running MLflow's pages in a real browser, for docs/training.md.

pip install playwright; playwright install chromium     # or give --browser a Chromium that is there
python -m tests.browser.mlflow_pages http://127.0.0.1:5000 docs/pictures EXPERIMENT [MODEL]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mlflow
from playwright.sync_api import Page, sync_playwright

SETTLE_MS = 6000
"""The pages go on drawing after they have loaded, and say nothing when they are done."""
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
)


def picture(page: Page, url: str, target: Path) -> None:
    page.goto(url)
    page.wait_for_timeout(SETTLE_MS)
    page.screenshot(path=target)
    print(target)


def settle_in(page: Page, server: str) -> None:
    """Past the assistant, to the part of MLflow that is about training."""
    page.goto(server)
    page.wait_for_timeout(SETTLE_MS)
    for name in ("Got it", "Close", "Model training"):
        button = page.get_by_role("button", name=name)
        if button.count():
            button.first.click()
            page.wait_for_timeout(500)


def main() -> None:
    parser = argparse.ArgumentParser(description="Picture the pages of a running MLflow.")
    parser.add_argument("server")
    parser.add_argument("out", type=Path)
    parser.add_argument("experiment")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--run", help="name of the run that is looked at; default: the newest")
    parser.add_argument("--browser", help="path of a Chromium; default: playwright's own")
    arguments = parser.parse_args()
    mlflow.set_tracking_uri(arguments.server)
    experiment = mlflow.get_experiment_by_name(arguments.experiment)
    if experiment is None:
        parser.error(f"no experiment {arguments.experiment!r} at {arguments.server}")
    named = f"attributes.run_name = '{arguments.run}'" if arguments.run else ""
    runs = mlflow.search_runs([experiment.experiment_id], named, output_format="list")
    if not runs:
        parser.error(f"no such run in {arguments.experiment!r}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    base = f"{arguments.server}/#/experiments/{experiment.experiment_id}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.browser, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        settle_in(page, base)
        picture(page, f"{base}/runs", arguments.out / "mlflow-runs.png")
        picture(page, f"{base}/runs?compareRunsMode=CHART", arguments.out / "mlflow-compare.png")
        for name, tab in (("run", ""), ("curves", "/model-metrics"), ("artifacts", "/artifacts")):
            picture(page, f"{base}/runs/{runs[0].info.run_id}{tab}", arguments.out / f"mlflow-{name}.png")
        if arguments.model:
            picture(
                page, f"{arguments.server}/#/models/{arguments.model}", arguments.out / "mlflow-model.png"
            )
        browser.close()


if __name__ == "__main__":
    main()
