"""The page: self-contained, rightly oriented, and alive in a browser."""

from __future__ import annotations

import html
import html.parser
import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from browser import CHROMIUM
from maesil import pipeline
from maesil.cli import main
from maesil.commands.evaluate import Evaluate
from maesil.commands.parsing import parse
from maesil.commands.pretrain import Pretrain, starting_point
from maesil.commands.report import Report
from maesil.config import RunConfig, to_dict
from maesil.ct.window import Window
from maesil.errors import CheckpointError, ConfigError
from maesil.evaluation.protocol import Protocol
from maesil.evaluation.sheet import Sheet
from maesil.models.contract import LastStage
from maesil.report.case import VIEWS, Case, cut
from maesil.report.describe import curves_of
from maesil.report.figures import figure3, panels, save_figure
from maesil.report.gallery import mask_gallery
from maesil.report.page import Curve, Page, encode_case, write_page
from maesil.report.run import make_case, picture_beside
from maesil.runs.load import LoadedModel, load_run
from maesil.sampling.regions import Region
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore


@pytest.fixture
def case() -> Case:
    """Air with a bright block at the patient's superior, anterior, right."""
    truth = np.full((20, 24, 28), -1000.0, dtype=np.float32)
    truth[12:18, 3:8, 2:9] = 800.0
    mask = np.zeros(truth.shape, dtype=bool)
    mask[:10] = True
    held = np.zeros(truth.shape, dtype=bool)
    held[10:, :12, :12] = True
    return Case("case-1", "set", truth, truth + 100.0, mask, held, (2.0, 1.0, 1.0), Window(), "a caption")


@pytest.fixture
def page(case: Case) -> Page:
    return Page(
        title="A page",
        subtitle="of tests",
        caution="One patient only.",
        facts={"Data": {"scans": "1"}},
        sheet=Sheet(
            ("scans", "region", "model", "n", "PSNR (dB) ↑", "LPIPS ↓"),
            (("all", "masked", "a", "1", "20.10", "0.30"), ("all", "masked", "b", "1", "21.50", "0.40")),
            ("the protocol <with> & signs",),
            best=frozenset({(0, 5), (1, 4)}),
        ),
        curves=(Curve("loss", [1, 2, 3], [3.0, 2.0, 1.0]),),
        cases=[case],
        commands=("maesil report RUN",),
    )


def test_cut__is_radiological(case: Case) -> None:
    """The block lies right, anterior, superior: on the left of axial and coronal views, above in all three."""
    for view, (vertical, horizontal) in {
        "axial": ("top", "left"),
        "coronal": ("top", "left"),
        "sagittal": ("top", "left"),
    }.items():
        image = cut(case.truth_hu, view, case.best_slices()[view])  # type: ignore[arg-type,index]
        rows, columns = np.nonzero(image > 0)
        assert (rows.mean() < image.shape[0] / 2) == (vertical == "top"), view
        assert (columns.mean() < image.shape[1] / 2) == (horizontal == "left"), view


def test_best_slices__show_held_out_tissue(case: Case) -> None:
    assert case.best_slices() == {"axial": 12, "coronal": 3, "sagittal": 2}


def test_panels__hide_masked_voxels_and_show_the_error(case: Case) -> None:
    original, masked, rebuilt, error = panels(case, "axial", 5, (-1000.0, 1000.0), 200.0)
    assert not np.allclose(original, masked)  # plane 5 is masked
    assert np.allclose(rebuilt[0, 0], 0.05)
    assert error[0, 0, 0] == pytest.approx(1.0)
    assert np.array_equal(*panels(case, "axial", 15, (-1000.0, 1000.0), 200.0)[:2])


def test_figures__are_written(case: Case, tmp_path: Path) -> None:
    save_figure(figure3(case), tmp_path / "figure3.png")
    masks = {"dual": np.arange(64).reshape(4, 4, 4) % 2 == 0}
    for ending in ("png", "svg"):
        save_figure(mask_gallery(masks), tmp_path / f"masks.{ending}")
    assert {path.name for path in tmp_path.iterdir()} == {"figure3.png", "masks.png", "masks.svg"}
    assert all(path.stat().st_size > 2000 for path in tmp_path.iterdir())


class Reader(html.parser.HTMLParser):
    """Collects what a page loads, its balance of tags, and its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag != "a":
            self.loads += [value for name in ("src", "href") if (value := values.get(name))]
        if tag not in ("meta", "link", "input", "line", "polyline", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element of SVG that closes itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_write_page__is_one_sound_file_that_loads_nothing(page: Page, tmp_path: Path) -> None:
    text = write_page(tmp_path / "page.html", page).read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.loads == []
    assert reader.open == []
    assert not re.search(r"url\(\s*['\"]?http|@import|fetch\(|XMLHttpRequest", text)
    assert "the protocol &lt;with&gt; &amp; signs" in text
    assert "One patient only." in text
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_picture_beside__lets_only_a_page_and_its_picture_be_replaced(page: Page, tmp_path: Path) -> None:
    path, picture = tmp_path / "page.html", tmp_path / "page.png"
    picture.write_bytes(b"a photograph")
    with pytest.raises(ConfigError, match="there already, and `maesil report` did not write it") as raised:
        picture_beside(path)
    assert raised.value.where == str(picture)
    write_page(path, page)
    assert picture_beside(path) == picture
    for theirs in (b"<!doctype html><p>mine", b"\xff"):
        path.write_bytes(theirs)
        with pytest.raises(ConfigError, match="`maesil report` did not write it") as raised:
            picture_beside(path)
        assert raised.value.where == str(path)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_masks__replaces_its_own_pictures_only(ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"masks.{ending}"
    for _ in range(2):
        pipeline.masks(out, grid=(4, 4, 4))
    save_figure(mask_gallery({"dual": np.zeros((4, 4, 4), dtype=bool)}), out)
    before = out.read_bytes()
    with pytest.raises(ConfigError, match="there already, and `maesil masks` did not write it"):
        pipeline.masks(out, grid=(4, 4, 4))
    assert out.read_bytes() == before


def test_write_page__marks_the_best_of_each_metric(page: Page, tmp_path: Path) -> None:
    text = write_page(tmp_path / "page.html", page).read_text(encoding="utf-8")
    assert re.findall(r'<td class="best">([^<]+)</td>', text) == ["0.30", "21.50"]


def test_encode_case__large_scans_are_thinned(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maesil.report.page.MAX_VOXELS", 2000)
    encoded = encode_case(case)
    assert encoded["stride"] == 2
    assert encoded["shape"] == [10, 12, 14]
    assert encoded["spacing"] == (4.0, 2.0, 2.0)


PROBE = """
<script>
addEventListener("load", () => setInterval(() => {
  if (!document.documentElement.dataset.ready || document.documentElement.dataset.probe) return;
  const pixels = (view, panel) => {
    const c = document.querySelector(`[data-view=${view}] canvas[data-panel="${panel}"]`);
    return { width: c.width, height: c.height, ratio: c.style.aspectRatio,
             data: c.getContext("2d").getImageData(0, 0, c.width, c.height).data };
  };
  const bright = (view) => {
    const image = pixels(view, 0);
    let n = 0, row = 0, column = 0;
    for (let i = 0; i < image.width * image.height; i++) {
      // The outline is yellow: only grey counts as bright.
      if (image.data[4 * i] < 200 || image.data[4 * i + 2] < 200) continue;
      n++; row += Math.floor(i / image.width); column += i % image.width;
    }
    return [row / n / image.height, column / n / image.width, image.ratio];
  };
  const sum = () => pixels("axial", 0).data.reduce((a, b) => a + b, 0);
  const found = { axial: bright("axial"), coronal: bright("coronal"), sagittal: bright("sagittal") };
  const before = sum();
  const slider = document.querySelector("[data-view=axial] input");
  slider.value = 1;
  slider.dispatchEvent(new Event("input"));
  found.moved = before !== sum();
  const m = pixels("axial", 1).data;
  found.hidden = [m[0], m[1], m[2]];
  document.querySelector("select.window").value = "-1000,1000";
  document.querySelector("select.window").dispatchEvent(new Event("change"));
  document.body.style.width = "400px";
  found.width = document.body.scrollWidth;
  found.table = [...document.querySelectorAll("table")].map((table) => table.getBoundingClientRect().right);
  found.error = document.documentElement.dataset.error || "";
  document.documentElement.dataset.probe = JSON.stringify(found);
}, 50));
</script>
"""


def probe(path: Path, profile: Path) -> dict[str, Any]:
    """What a browser finds on a page: where the bright voxels are, what the sliders do, the script's errors."""
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
        "--virtual-time-budget=30000", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    probed = re.search(r'data-probe="([^"]+)"', shown)
    assert probed, shown[:300]
    found: dict[str, Any] = json.loads(html.unescape(probed.group(1)))
    return found


in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.mark.slow
@in_a_browser
def test_page__works_in_a_browser(page: Page, case: Case, tmp_path: Path) -> None:
    visible = replace(page, cases=[replace(case, held_out=np.ones_like(case.mask))])
    found = probe(write_page(tmp_path / "page.html", visible), tmp_path / "profile")
    assert found["error"] == ""
    assert found["moved"]
    assert found["hidden"] == [33, 43, 64]
    for view in VIEWS:
        row, column, ratio = found[view]
        assert row < 0.5, view
        assert column < 0.5, view
        height_mm, width_mm = {"axial": (24, 28), "coronal": (40, 28), "sagittal": (40, 24)}[view]
        assert [float(part) for part in ratio.split("/")] == [width_mm, height_mm]


@pytest.mark.slow
@in_a_browser
def test_page__of_a_run_works_in_a_browser(tiny_config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pipeline.pretrain(replace(tiny_config, train=replace(tiny_config.train, steps=4)), run)
    pipeline.evaluate(run, protocol=Protocol(lpips=None))
    found = probe(pipeline.report(run), tmp_path / "profile")
    assert found["error"] == ""
    assert found["moved"]
    assert found["width"] == 400, "a narrow window cuts nothing off: tables scroll"
    assert found["table"]
    assert max(found["table"]) <= 400
    (shape,) = {entry.shape for entry in ScanStore(tiny_config.data.store).entries}  # type: ignore[arg-type]
    for view, (down, across) in {"axial": (1, 2), "coronal": (0, 2), "sagittal": (0, 1)}.items():
        ratio = [float(part) for part in found[view][2].split("/")]
        assert ratio == [2.0 * shape[across], 2.0 * shape[down]], view


def test_report__refuses_outputs_that_cannot_be_written_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "page.png").mkdir()
    for name, message in (
        (".", "this is a folder"),
        ("other.png", "can't be a '.png' file"),
        ("scan.nii.gz", "can't be a '.gz' file"),
        ("page.html", "this is a folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            picture_beside(tmp_path / name)
    with pytest.raises(ConfigError, match="this is a folder"):
        pipeline.evaluate("nowhere", json_path=tmp_path)
    with pytest.raises(ConfigError, match=r"a JSON file can't be a '\.gz' file"):
        pipeline.evaluate("nowhere", json_path=tmp_path / "scan.nii.gz")


def test_evaluate__refuses_a_folder_that_cannot_be_written_before_the_work(
    tiny_config: RunConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    pipeline.pretrain(replace(tiny_config, train=replace(tiny_config.train, steps=1)), run)
    (run / "evaluation").write_text("a file of the user's")
    scored: list[object] = []
    with pytest.raises(ConfigError, match="a file has its name"):
        pipeline.evaluate(run, protocol=Protocol(lpips=None), progress=lambda *told: scored.append(told))
    assert not scored


def test_report__of_a_split_that_was_not_evaluated_says_what_to_run(
    tiny_config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "a run"
    pipeline.pretrain(replace(tiny_config, train=replace(tiny_config.train, steps=1)), run)
    pipeline.evaluate(run, protocol=Protocol(lpips=None, mask_draws=1, regions=("masked",)))
    assert main(["report", str(run), "--split", "val"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "split 'val' was not evaluated" in said
    assert f"maesil evaluate '{run}' --split val, or give --split test" in said
    assert "Errno" not in said


def test_report__shows_what_was_scored(tiny_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures are of the checkpoint and protocol of the table, and the page names them."""
    run = tmp_path / "run"
    pipeline.pretrain(tiny_config, run)
    best = load_run(run, checkpoint="best").record["step"]
    protocol = Protocol(lpips=None, mask_seed=7, regions=("masked",))
    pipeline.evaluate(run, checkpoint="best", protocol=protocol)
    shown = []

    def watch(loaded: LoadedModel, store: ScanStore, region: Region, asked: Protocol) -> Case:
        shown.append((loaded.folder, asked))
        return make_case(loaded, store, region, asked)

    monkeypatch.setattr("maesil.report.run.make_case", watch)
    text = pipeline.report(run).read_text(encoding="utf-8")
    assert shown == [((run / "checkpoints" / "best").resolve(), protocol)]
    assert f"Checkpoint &#39;best&#39;, step {best}." in text
    assert "Software of the training" in text
    assert "Software of this page" in text
    with pytest.raises(ConfigError, match="no such scan was scored: x"):
        pipeline.report(run, scans=["x"])


def test_report__refuses_a_checkpoint_that_was_not_scored(tiny_config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pipeline.pretrain(tiny_config, run)
    evaluated = pipeline.evaluate(run, protocol=Protocol(lpips=None))
    record = evaluated.folder / "notes.json"
    record.write_text(record.read_text().replace('"step": 12', '"step": 9'))
    with pytest.raises(CheckpointError, match="step 9 was evaluated, but checkpoint 'last' is now at step 12"):
        pipeline.report(run)
    record.write_text('["a note of an earlier version"]')
    with pytest.raises(CheckpointError, match="does not say what it scored"):
        pipeline.report(run)


def test_report__scores_of_another_store_stay_apart(tiny_config: RunConfig, scans: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pipeline.pretrain(replace(tiny_config, train=replace(tiny_config.train, steps=2)), run)
    protocol = Protocol(lpips=None, mask_draws=1)
    own = pipeline.evaluate(run, protocol=protocol)
    before = (own.folder / "scores.jsonl").read_bytes()
    other = tmp_path / "other"
    prepare([scans], other, PrepareConfig(spacing_mm=3.0), workers=0)
    theirs = pipeline.evaluate(run, store=other, protocol=protocol)
    assert theirs.folder.name == f"test-store-{ScanStore(other).fingerprint[:8]}"
    assert (own.folder / "scores.jsonl").read_bytes() == before
    assert pipeline.evaluate(run, store=tiny_config.data.store, protocol=protocol).folder == own.folder
    page = pipeline.report(run)
    before = page.read_bytes()
    assert pipeline.report(run, store=other).name == f"report-{theirs.folder.name}.html"
    assert page.read_bytes() == before
    with pytest.raises(CheckpointError) as raised:
        pipeline.report(run, split="val", store=other)
    assert str(raised.value.fix).endswith(f"--split val --data.store {other}, or give --split test")
    record = own.folder / "notes.json"
    record.write_text(record.read_text().replace(ScanStore(tiny_config.data.store).fingerprint, "0" * 64))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="these scores are of another store"):
        pipeline.report(run)


def test_report__its_commands_repeat_run_scores_and_page(tiny_config: RunConfig, tmp_path: Path) -> None:
    """The commands are read as the commands read them, and give the settings that were used."""
    run = tmp_path / "a run"
    config = replace(tiny_config, preset="base", train=replace(tiny_config.train, steps=2))
    pipeline.pretrain(config, run)
    protocol = Protocol(lpips=None, mask_draws=2, regions=("masked",), paste=False)
    pipeline.evaluate(run, protocol=protocol, split="val")
    (scan,) = (entry.scan_id for entry in ScanStore(config.data.store).entries if entry.patient == "c")  # type: ignore[arg-type]
    page = pipeline.report(run, split="val", scans=[scan])
    text = html.unescape(page.read_text(encoding="utf-8"))
    pretrain, evaluate, report = (
        shlex.split(line)[2:] for line in re.findall(r"^(?:.*<pre>)?(maesil .*)$", text, re.M)
    )
    start, rest = starting_point(pretrain)
    assert to_dict(parse(Pretrain, "pretrain", rest, Pretrain(config=start)).config) == to_dict(
        replace(config, data=replace(config.data, store=ScanStore(config.data.store).path.resolve()))  # type: ignore[arg-type]
    )
    asked = parse(Evaluate, "evaluate", evaluate)
    assert (asked.protocol, asked.split, asked.checkpoint) == (protocol, "val", "last")
    shown = parse(Report, "report", report)
    assert (shown.split, shown.scans) == ("val", (scan,))
    assert "<dt>train.steps</dt><dd>2</dd>" in text
    assert "<dt>data.holdout.patients.overrides</dt><dd>2 patients</dd>" in text
    assert str(config.data.store) not in text


def test_report__a_page_per_split_with_the_legend_it_needs(tiny_config: RunConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pipeline.pretrain(replace(tiny_config, train=replace(tiny_config.train, steps=2)), run)
    for split in ("test", "val"):
        pipeline.evaluate(run, split=split, protocol=Protocol(lpips=None, mask_draws=1))
    test = pipeline.report(run)
    before = test.read_bytes()
    val = pipeline.report(run, split="val")
    assert (test.name, val.name) == ("report.html", "report-val.html")
    assert test.read_bytes() == before
    assert {"report.png", "report-val.png"} <= {path.name for path in run.iterdir()}
    assert "ashed lines" not in test.read_text(encoding="utf-8"), "whole scans were scored"


def test_write_page__the_legend_of_a_scan_that_was_scored_in_part(page: Page, case: Case, tmp_path: Path) -> None:
    for part, count in ((case.held_out, 1), (np.ones_like(case.held_out), 0)):
        path = write_page(tmp_path / "page.html", replace(page, cases=[replace(case, held_out=part)]))
        assert path.read_text(encoding="utf-8").count("Dashed lines") == count


def test_curves_of__the_loss_of_the_last_stage_is_another_curve(tmp_path: Path) -> None:
    log = tmp_path / "metrics.csv"
    rows = ["step,loss,val_psnr_masked", "2,1.2,", "4,0.8,15.0", "6,0.7,", "8,0.6,16.0", "10,1.7,16.5"]
    log.write_text("\n".join(rows) + "\n")
    stage = LastStage("fusion", nn.Identity(), share=0.2, peak_lr=1e-3)
    shown = {each.name: (list(each.steps), list(each.values)) for each in curves_of(log, stage, 10)}
    assert shown["training loss"] == ([2, 4, 6, 8], [1.2, 0.8, 0.7, 0.6])
    assert shown["training loss of the fusion"] == ([10], [1.7])
    longer = {each.name: list(each.steps) for each in curves_of(log, stage, 20, ((8, 8),))}
    assert longer["training loss of the fusion"] == [8], "the end of the shorter run; the longer one's is to come"
    assert longer["training loss"] == [2, 4, 6, 10]
    mixed = {each.name: list(each.steps) for each in curves_of(log, replace(stage, share=0.3), 10)}
    assert mixed == {
        "training loss": [2, 4, 6],
        "training loss of the fusion": [10],
        "held-out masked PSNR": [4, 8, 10],
    }
    assert [each.name for each in curves_of(log, None, 10)] == ["training loss", "held-out masked PSNR"]
