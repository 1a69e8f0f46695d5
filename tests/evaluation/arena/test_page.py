"""The page's script, in Node on a stand-in for a browser: nobody votes on what they cannot see."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from relay_diffusion.evaluation.arena import app
from relay_diffusion.evaluation.arena.votes import VoteStore
from tests.evaluation.arena.making import some_pairs

BROWSER = r"""
const elements = new Map(), heard = new Map(), votes = [], broken = "bad";
const turns = [
  { pair: "1", prompt: "a fox", tokens: ["good", "bad"], sizes: [[8, 8], [8, 8]], answers: {} },
  { pair: "2", prompt: "an owl", tokens: ["good", "fine"], sizes: [[8, 8], [8, 8]], answers: {} },
];
function make(more) {
  return {
    hidden: false, disabled: false, textContent: "", src: "", dataset: {}, heard: {},
    style: { setProperty() {} }, classList: { add() {}, remove() {}, toggle() {} },
    setAttribute() {}, focus() {}, querySelectorAll: () => [],
    addEventListener(kind, act) { this.heard[kind] = act; },
    async decode() { if (this.src.endsWith(broken)) throw new Error("EncodingError"); },
    ...more,
  };
}
const images = [make(), make()], texts = [make({ hidden: true }), make({ hidden: true })];
const buttons = ["left", "tie", "right"].map((choice) => make({ dataset: { choice } }));
const fields = ["alignment", "beauty"].map((question) =>
  make({ dataset: { question }, querySelectorAll: () => buttons }));
globalThis.document = {
  getElementById(id) {
    if (!elements.has(id)) elements.set(id, make({ textContent: JSON.stringify(turns) }));
    return elements.get(id);
  },
  querySelectorAll: (what) =>
    ({ "#pictures img": images, ".unseen": texts, fieldset: fields })[what],
  addEventListener(kind, act) { heard.set(kind, act); },
};
globalThis.window = { addEventListener() {} };
globalThis.Image = class {};
globalThis.fetch = async (to, { body }) => { votes.push(JSON.parse(body)); return { ok: true }; };
const settle = () => new Promise((resolve) => setTimeout(resolve, 20));
const press = async (code) => {
  const { timeStamp } = { timeStamp: performance.now() };
  heard.get("keydown")({ code, key: code, timeStamp, preventDefault() {} });
  await settle();
};
const state = () => ({
  prompt: elements.get("prompt").textContent, unseen: texts.map((text) => !text.hidden),
  disabled: buttons.map((button) => button.disabled), votes: votes.length,
  next: !elements.get("pass").hidden, problem: elements.get("problem")?.textContent,
});
"""
ACTIONS = """
(async () => {
  const said = [];
  await settle();
  said.push(state());
  await press("Digit1");
  said.push(state());
  elements.get("pass").heard.click({ timeStamp: performance.now() });
  await settle();
  said.push(state());
  await press("Digit1");
  said.push(state());
  console.log(JSON.stringify(said));
})();
"""


@pytest.fixture(scope="module")
def said() -> list[dict[str, Any]]:
    """What the page shows at first, after a key, after "Next pair", and after another key."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node")
    script = (Path(app.__file__).parent / "static" / "arena.js").read_text(encoding="utf-8")
    run = BROWSER + "(() => {" + script + "})();" + ACTIONS
    done = subprocess.run([node, "-"], input=run, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    result: list[dict[str, Any]] = json.loads(done.stdout)
    return result


def test_a_picture_that_cannot_be_shown_takes_no_answer(said: list[dict[str, Any]]) -> None:
    for state in said[:2]:
        assert state["prompt"] == "a fox"
        assert state["unseen"] == [False, True]
        assert all(state["disabled"]) and state["next"]
        assert state["votes"] == 0


def test_the_rater_goes_on_to_the_next_pair(said: list[dict[str, Any]]) -> None:
    for votes, state in enumerate(said[2:]):
        assert state["prompt"] == "an owl"
        assert state["unseen"] == [False, False]
        assert not any(state["disabled"]) and not state["next"]
        assert state["votes"] == votes


def test_the_page_has_what_the_script_works_on(tmp_path: Path) -> None:
    """The stand-in has whatever is asked for, so that it would not show."""
    store = VoteStore(tmp_path / "votes.sqlite")
    client = TestClient(app.create_app(some_pairs(tmp_path, prompts=["a fox"]), store))
    client.post("/name", data={"name": "Anna"})
    page = client.get("/").text
    script = client.get("/static/arena.js").text
    ids = set(re.findall(r'(?:\$|getElementById)\("(\w+)"\)', script))
    assert {"pass", "prompt", "state"} <= ids <= set(re.findall(r'id="(\w+)"', page))
    assert page.count("This picture cannot be shown") == page.count('class="unseen"') == 2
