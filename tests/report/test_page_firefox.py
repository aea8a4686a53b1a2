"""report.html in Firefox, driven by WebDriver BiDi: no error, no request but for the page, and the explorer works as in Chromium."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.drawn import entries
from vae_variants.report.content import content
from vae_variants.report.figures import drawings, plots
from vae_variants.report.html import page

FIREFOX = shutil.which("firefox") or shutil.which("firefox-esr")
pytestmark = pytest.mark.skipif(not (FIREFOX and find_spec("websockets")), reason="needs Firefox and websockets")
SECONDS = 60.0


class Bidi:
    """A session of Firefox with one tab; `events` are what it said without being asked."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.events, self.numbers = socket, list[dict](), itertools.count(1)
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        self.tab = self.ask("browsingContext.create", type="tab")["context"]

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv(timeout=SECONDS))).get("id") != number:
            self.events.append(answer)
        assert answer["type"] == "success", answer
        return answer["result"]

    def run(self, expression: str) -> Any:
        found = self.ask("script.evaluate", expression=f"JSON.stringify({expression})", target={"context": self.tab}, awaitPromise=True)
        assert found["type"] == "success", found
        return json.loads(found["result"]["value"])


@pytest.fixture
def firefox(tmp_path: Path) -> Iterator[Bidi]:
    from websockets.sync.client import connect

    command = [FIREFOX, "--headless", "--no-remote", "--profile", str(tmp_path), "--remote-debugging-port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        said = (re.search(r"ws://\S+", line) for line in process.stderr)
        address = next(found[0] for found in said if found)
        with connect(f"{address}/session", max_size=None) as socket:
            yield Bidi(socket)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_the_page_works_in_firefox(firefox: Bidi, tmp_path_factory: pytest.TempPathFactory) -> None:
    group = entries(8)
    drawn = [each for each in drawings(group) if each.name in ("samples", "reconstructions", "traversals")]
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(content("digits", group, "a command"), plots(drawn)), encoding="utf-8")
    firefox.ask("browsingContext.navigate", context=firefox.tab, url=path.as_uri(), wait="complete")
    dots = "document.querySelectorAll('.scatter svg [data-name=dot] > *').length"
    assert firefox.run(dots) > 1
    firefox.run("(document.querySelector('.axes [name=y]').value = 'reconstruction_mse', 0)")
    firefox.run("(document.querySelector('.axes').dispatchEvent(new Event('input')), 0)")
    assert firefox.run(dots) == sum(bool(e.interval("reconstruction_mse") and e.interval("train_seconds")) for e in group)
    firefox.run("(document.querySelector('#tab-compare').click(), 0)")
    assert firefox.run("document.querySelectorAll('#differences tbody tr').length") > 10
    assert firefox.run("document.querySelectorAll('#compare .side image').length") >= 4
    assert firefox.run("document.querySelector('#explore').offsetParent === null")
    requests = {e["params"]["request"]["url"] for e in firefox.events if e.get("method") == "network.beforeRequestSent"}
    assert {url.partition("#")[0] for url in requests if not url.startswith(("data:", "about:"))} <= {path.as_uri()}
    assert [e["params"]["text"] for e in firefox.events if e.get("method") == "log.entryAdded" and e["params"]["level"] != "info"] == []
