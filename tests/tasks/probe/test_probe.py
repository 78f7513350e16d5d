"""Probes of frozen features: what is asked, who is held out, and what the table says."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np
import pytest
import torch

from backbones import small_backbone, small_card
from conftest import TINY_MODEL
from labelled import counted_names, labelled_store
from maesil.cli import main
from maesil.datasets.splits import SplitConfig
from maesil.datasets.unify import unify
from maesil.encoder.tokens import pooled, scan_tokens
from maesil.errors import ConfigError, StoreError
from maesil.export.targets import export
from maesil.metrics.classification import each_auroc
from maesil.sampling.config import DataConfig
from maesil.sampling.labelled import Classes
from maesil.sampling.regions import regions_of
from maesil.store.check import remove_scans
from maesil.store.prepare import PrepareConfig, prepare
from maesil.store.scanstore import ScanStore
from maesil.tasks.probe.answers import Answer, Asked, answers_of, untold_of
from maesil.tasks.probe.probe import probe
from maesil.tasks.probe.ridge import ridge_probe
from maesil.tasks.probe.samples import Samples, Targets, samples_of

CLASSES = ("bright", "dark")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_store(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def encoder(store: Path) -> Path:
    return export(small_backbone(TINY_MODEL), small_card(TINY_MODEL), "safetensors", store.parent / "encoder")


def test_command__every_question_at_every_depth(
    store: Path, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "probed"
    assert main(["probe", str(encoder), str(store), "--out", str(out), "--starts", "1"]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == (out / "table.md").read_text().strip()
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    questions = {("organ", "superpatch", "linear"), ("organ", "superpatch", "knn"), ("organ", "patch", "linear")}
    depths = range(TINY_MODEL.encoder_depth + 1)
    assert {(row["target"], row["unit"], row["probe"]) for row in rows} == questions
    assert len(rows) == len(questions) * len(depths) * 2
    assert sum(line.startswith("| organ |") for line in shown.out.splitlines()) == len(questions) * len(depths)
    assert "tested on 1 scan of the split 'test'" in shown.out
    assert "The checkpoint does not record its training patients." in shown.out
    again = probe(encoder, store, tmp_path / "again", starts=1)
    reasons = {id(one.untold) for one in again.answers}
    assert len(reasons) == len(questions) * 2, "found once for a question and a start, not at every depth"
    assert again.table.strip() == shown.out.strip(), "random starts and patches are drawn from fixed seeds"
    grouped = probe(encoder, store, tmp_path / "grouped", starts=1, groups=(2, 2))
    assert "Tokens were encoded in 2 x 2 groups" in grouped.table
    apart, whole = ({(one.asked, one.depth, one.start): one.each for one in each.answers} for each in (grouped, again))
    assert {depth for _, depth, _ in (key for key in whole if whole[key] != apart[key])} == {*depths} - {0}
    spread = probe(encoder, store, tmp_path / "spread", starts=1, pool="mean_std")
    assert "A superpatch's vector is the mean and the standard deviation of its tokens" in spread.table
    told, same = ({(one.asked, one.depth, one.start): one for one in each.answers} for each in (spread, again))
    assert {asked.unit for asked, *_ in (key for key in same if same[key].each != told[key].each)} == {"superpatch"}
    trained, random = (answer for answer in again.answers if answer.asked.unit == "patch" and answer.depth == 1)
    assert trained.each != random.each, "another start has other features"


def test_samples__are_those_of_the_labels_and_of_embed(store: Path, encoder: Path) -> None:
    scans, backbone = ScanStore(store), small_backbone(TINY_MODEL).eval()
    entry = scans.entries[0]
    found = samples_of(backbone, scans, [entry], Targets(Classes(CLASSES), ("one", entry.dataset)))
    tiles = [(tile, tokens, solid) for tile, tokens, solid in scan_tokens(backbone, scans, entry)]
    spread = samples_of(backbone, scans, [entry], Targets(Classes(CLASSES), ()), pool="mean_std").superpatches.vectors
    tokens, solid = tiles[0][1:]
    torch.testing.assert_close(spread[-1, 0, : backbone.width], tokens[solid].mean(dim=0))
    torch.testing.assert_close(spread[-1, 0, backbone.width :], tokens[solid].std(dim=0, correction=0))
    assert found.superpatches.vectors.shape[:2] == (TINY_MODEL.encoder_depth + 1, len(tiles))
    vectors = np.stack([pooled(tokens, solid) for _, tokens, solid in tiles])
    assert np.allclose(found.superpatches.vectors[-1].numpy(), vectors, atol=1e-5)
    labels = scans.read_labels(entry.scan_id, (0, 0, 0), entry.shape)
    assert entry.labels is not None
    holds = [[(labels[tile.inside] == entry.labels[name]).any() for name in CLASSES] for tile, _, _ in tiles]
    assert found.superpatches.truth.tolist() == holds
    assert found.regions.truth.tolist() == [[False, True]] * len(tiles)
    assert 0 < found.patches.truth.sum() < found.patches.truth.size
    assert found.patches.vectors.shape[1] == len(found.patches.truth) == len(found.patches.patients)


def _samples(score: list[float], truth: list[bool], patients: str) -> Samples:
    return Samples(torch.tensor(score)[None, :, None], np.array(truth, dtype=np.float64)[:, None], tuple(patients))


def answer_of(asked: Asked, names: tuple[str, ...], known: Samples, tested: Samples) -> Answer:
    return next(answers_of(asked, names, known, tested, (0,), "pre-trained"))


def test_answers_of__what_the_features_tell() -> None:
    known = _samples([0.0, 1.0, 2.0, 3.0] * 5, [False, False, True, True] * 5, "kkkklllloooommmmnnnn")
    told = _samples([0.0, 3.0, 1.0, 2.0], [False, True, False, True], "aabb")
    asked = Asked("organ", "superpatch", "linear")
    assert answer_of(asked, ("x",), known, told).auroc == 1.0
    turned = _samples([0.0, 3.0, 1.0, 2.0], [True, False, True, False], "aabb")
    assert answer_of(asked, ("x",), known, turned).auroc == 0.0
    assert answer_of(replace(asked, probe="knn"), ("x",), known, told).auroc == 1.0


def test_answers_of__patches_are_ranked_within_a_patient() -> None:
    known = _samples([0.0, 1.0, 2.0, 3.0] * 5, [False, False, True, True] * 5, "kkkklllloooommmmnnnn")
    told = _samples([0.0, 1.0, 2.0, 3.0], [False, True, False, True], "aabb")
    patch = answer_of(Asked("organ", "patch", "linear"), ("x",), known, told)
    superpatch = answer_of(Asked("organ", "superpatch", "linear"), ("x",), known, told)
    assert (patch.auroc, superpatch.auroc) == (1.0, 0.75)


def test_ridge_probe__each_encoder_gets_the_penalty_that_suits_it() -> None:
    generator = torch.Generator().manual_seed(0)
    patients, truth = np.repeat(np.arange(10).astype(str), 40), torch.rand(400, generator=generator) < 0.5
    told = truth.float()[:, None] - 0.5
    noise = torch.randn(400, 30, generator=generator)
    weak = torch.cat((told + 10 * noise[:, :1], noise[:, :1]), dim=1)  # the answer is what is left of two directions
    strong = torch.cat((told + noise[:, :1], torch.randn(400, 150, generator=generator)), dim=1)  # or 1 of 151
    answers = truth.double().numpy()[:, None]
    scores, small = ridge_probe(weak[:200], answers[:200], patients[:200].tolist(), weak[200:])
    _, large = ridge_probe(strong[:200], answers[:200], patients[:200].tolist(), strong[200:])
    assert each_auroc(scores, answers[200:])[0] > 0.99
    assert small <= 1e-3 < large


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_answers_of__scans_without_a_mark_of_the_target_tell_nothing(kind: Literal["linear", "knn"]) -> None:
    """Two targets; the second is unmarked in half of the patients, where it would be taught as absent."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(1, 400, 6, generator=generator)
    truth = (vectors[0, :, :2] > 0).double().numpy()
    patients = tuple(str(number // 20) for number in range(400))
    whole, unmarked, absent = truth.copy(), truth.copy(), truth.copy()
    unmarked[:100, 1], absent[:100, 1] = np.nan, 0
    tested = Samples(vectors[:, 200:], truth[200:], patients[200:])
    asked = Asked("organ", "superpatch", kind)

    def answer(taught: np.ndarray, rows: slice, tests: Samples = tested) -> dict[str, float]:
        known = Samples(vectors[:, rows], taught[rows], patients[rows])
        return answer_of(asked, ("a", "b"), known, tests).each

    given = answer(unmarked, slice(200))
    assert given["a"] == answer(whole, slice(200))["a"]
    assert given["b"] == pytest.approx(answer(whole, slice(100, 200))["b"], abs=0.01)
    assert answer(absent, slice(200))["b"] < given["b"]
    some = truth[200:].copy()
    some[:150, 1] = np.nan
    last = Samples(vectors[:, 350:], truth[350:], patients[350:])
    tests = Samples(vectors[:, 200:], some, patients[200:])
    assert answer(whole, slice(200), tests)["b"] == answer(whole, slice(200), last)["b"]
    nobody = whole.copy()
    nobody[:, 1] = np.nan
    unknown = answer(nobody, slice(200))
    assert np.isnan(unknown["b"])
    assert unknown["a"] == given["a"]


def test_untold_of__says_why_a_target_has_no_auroc() -> None:
    """Five targets: fine; in no test sample; in every training sample; never marked; only one kind in each patient."""
    nan = np.nan
    taught = np.array([[0, 0, 1, nan, 0], [1, 1, 1, nan, 1]])
    truth = np.array([[0.0, 0, 0, 1, 0], [1, 0, 1, 0, 0], [0, 0, 0, 1, 1], [1, 0, 1, 0, 1]])
    known = Samples(torch.zeros(1, 2, 1), taught, ("k", "l"))
    tested = Samples(torch.zeros(1, 4, 1), truth, ("a", "a", "b", "b"))
    asked = Asked("organ", "patch", "linear")
    expected = {
        "absent": "no test patch has it",
        "always": "every training patch has it",
        "unmarked": "no training patch is known to have or lack it",
        "apart": "no test patient has patches with it and without it",
    }
    assert untold_of(asked, ("fine", *expected), known, tested) == expected
    expected.pop("apart")  # superpatches are ranked over all patients
    found = untold_of(replace(asked, unit="superpatch"), ("fine", *expected, "apart"), known, tested)
    assert found == {name: why.replace("patch", "superpatch") for name, why in expected.items()}


@pytest.mark.parametrize("probe_kind", ["linear", "knn"])
def test_answers_of__a_target_of_one_kind_in_training_does_not_move_the_mean(
    probe_kind: Literal["linear", "knn"],
) -> None:
    known, tested = (
        _samples([0.0, 1.0, 2.0, 3.0] * 5, [False, False, True, True] * 5, "kkkkllllmmmmnnnnoooo") for _ in "ab"
    )
    always = np.ones((len(known.truth), 1))
    both = replace(known, truth=np.concatenate([known.truth, always], axis=1))
    asked = replace(tested, truth=np.concatenate([tested.truth, tested.truth], axis=1))
    found = answer_of(Asked("organ", "superpatch", probe_kind), ("x", "always"), both, asked)
    alone = answer_of(Asked("organ", "superpatch", probe_kind), ("x",), known, tested)
    assert np.isnan(found.each["always"])
    assert found.auroc == alone.auroc > 0.9
    np.testing.assert_array_equal(found.resampled, alone.resampled)


def test_answers_of__one_patient_with_both_kinds_has_no_interval() -> None:
    known = _samples([0.0, 1.0, 2.0, 3.0] * 5, [False, False, True, True] * 5, "kkkklllloooommmmnnnn")
    tested = _samples([0.0, 3.0, 1.0, 2.0], [False, True, False, False], "aabb")
    found = answer_of(Asked("organ", "patch", "linear"), ("x",), known, tested)
    assert (found.auroc, found.patients) == (1.0, 1)
    assert np.isnan(found.resampled).all()
    both = answer_of(Asked("organ", "superpatch", "linear"), ("x",), known, tested)
    assert both.patients == 2


def test_answer_of__the_interval_of_patches_is_that_of_their_mean() -> None:
    """Of eight patients, one has patches with and without the second organ, which is hard to tell."""
    random = np.random.default_rng(0)
    patients, truth = np.repeat(np.arange(8).astype(str), 20), random.integers(2, size=(160, 2)).astype(np.float64)
    easy, hard = truth[:, 0], random.normal(size=160)
    known = Samples(torch.tensor(np.stack([easy, hard], axis=1))[None].float(), truth, tuple(patients))
    tested = replace(known, truth=np.where((patients > "0")[:, None] & [False, True], np.nan, truth))
    asked = Asked("organ", "patch", "linear")
    found = answer_of(asked, ("easy", "hard"), known, tested)
    assert found.auroc == pytest.approx((1 + found.each["hard"]) / 2)
    assert found.patients == 8
    with_it = np.isclose(found.resampled, found.auroc)
    np.testing.assert_allclose(found.resampled[~with_it], 1.0)
    assert with_it.mean() == pytest.approx(1 - (7 / 8) ** 8, abs=0.03), "in these resamples, the patient is drawn"


@pytest.mark.parametrize("unit", ["superpatch", "patch"])
def test_answer_of__nothing_known_is_no_warning(unit: Literal["superpatch", "patch"]) -> None:
    known = _samples([0.0, 1.0, 2.0, 3.0], [True, True, True, True], "aabb")
    found = answer_of(Asked("organ", unit, "linear"), ("x",), known, known)
    assert np.isnan(found.auroc)
    assert np.isnan(found.resampled).all()
    assert found.patients == 0


def test_probe__says_what_is_missing_with_one_patient(store: Path, encoder: Path, tmp_path: Path) -> None:
    """Of three patients, one trains, one validates and one is tested."""
    few = tmp_path / "few"
    shutil.copytree(store, few)
    remove_scans(few, [ScanStore(few).entries[-1].scan_id])
    table = probe(encoder, few, tmp_path / "out", starts=1).table
    assert "cross-validation" not in table
    assert "as there is one training patient, none is left out to choose a penalty on: it is 10 for all" in table
    for unit in ("superpatch", "patch"):
        assert f"organ of a {unit}: no interval, as it rests on one test patient." in table
    assert "random weights: one start;" in table
    usual = probe(encoder, store, tmp_path / "usual", starts=1).table
    assert "chosen by cross-validation over the training patients" in usual


def test_probe__uses_scans_with_some_of_the_organs_marked(store: Path, encoder: Path, tmp_path: Path) -> None:
    again = tmp_path / "scans"
    shutil.copytree(store.parent / "scans", again)
    for name in "ab":
        path = again / f"{name}_labels.nii.gz"
        image = nibabel.load(path)
        marked = np.asarray(image.dataobj)
        nibabel.save(nibabel.Nifti1Image(np.where(marked == 1, marked, 0), image.affine), path)
    names = store.parent / "names.json"
    settings = PrepareConfig(spacing_mm=2.0, salt="test", labels=True, label_names=names, missing_labels="unmarked")
    prepare([again], tmp_path / "store", settings, workers=0)
    whole = probe(encoder, store, tmp_path / "whole", classes=CLASSES, starts=1)
    some = probe(encoder, tmp_path / "store", tmp_path / "some", classes=CLASSES, starts=1)
    counted = [re.search(r"\d+ training scans? and tested on \d+ scans?", one.table) for one in (whole, some)]
    assert counted[0] is not None
    assert counted[1] is not None
    assert counted[0].group() == counted[1].group()
    assert [one.each["dark"] for one in whole.answers] != [one.each["dark"] for one in some.answers]


def test_probe__names_the_classes_that_no_scan_of_a_split_marks(store: Path, encoder: Path, tmp_path: Path) -> None:
    """The labels of the test scans have no voxel of one class, which counts as unmarked there."""
    scans, few, names = tmp_path / "scans", tmp_path / "few", store.parent / "names.json"
    shutil.copytree(store.parent / "scans", scans)
    config = PrepareConfig(spacing_mm=2.0, salt="test", labels=True, label_names=names, missing_labels="unmarked")
    places = prepare([scans], few, config, workers=0).places
    for region in regions_of(ScanStore(few), DataConfig(padded_crops=False), TINY_MODEL.superpatch, "test"):
        path = Path(places[region.entry.scan_id].replace(".nii.gz", "_labels.nii.gz"))
        image = nibabel.load(path)
        marked = np.asarray(image.dataobj)
        nibabel.save(nibabel.Nifti1Image(np.where(marked == 2, 0, marked).astype(np.uint8), image.affine), path)
    prepare([scans], few, config, workers=0)
    with pytest.raises(StoreError, match="no scan that marks dark is in the split 'test'") as told:
        probe(encoder, few, tmp_path / "out", classes=("dark",))
    assert "--split" in str(told.value.fix)
    assert "dark" in {name for entry in ScanStore(few).entries for name in entry.labels or ()}, "in training scans"


def test_probe__advises_more_patients_if_one_split_has_none(store: Path, encoder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    shutil.copytree(store, few)
    scans = [entry.scan_id for entry in ScanStore(few).entries]
    remove_scans(few, scans[2:])
    with pytest.raises(StoreError, match="belongs to the split 'val'") as two:
        probe(encoder, few, tmp_path / "out", split="val")
    assert two.value.fix == "prepare three patients or more, so that every split has one; or give --split test"
    remove_scans(few, scans[1:2])
    with pytest.raises(StoreError, match="belongs to the split 'test'") as one:
        probe(encoder, few, tmp_path / "out")
    assert one.value.fix == "prepare three patients or more, so that every split has one"


def test_probe__advises_other_splits_if_those_of_the_scans_leave_one_empty(
    store: Path, encoder: Path, tmp_path: Path
) -> None:
    listed, training = tmp_path / "list.json", SplitConfig(fractions=(1.0, 0.0, 0.0))
    unify(store.parent / "scans", splits=training, out=listed)
    prepare([listed], tmp_path / "store", PrepareConfig(spacing_mm=2.0, labels=True), workers=0)
    assert len({entry.patient for entry in ScanStore(tmp_path / "store").entries}) > 2
    with pytest.raises(StoreError, match="belongs to the split 'test'") as told:
        probe(encoder, tmp_path / "store", tmp_path / "out")
    assert told.value.fix == (
        "assign patients to it, and prepare the scans again: maesil datasets SCANS --splits.overrides PATIENT test "
        "--out LIST.json, then maesil prepare LIST.json --labels --out STORE --spacing-mm 2"
    )


def test_probe__compares_scans_a_few_times_however_many_are_labelled(
    store: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name for each of 1,000 scans that the store has no superpatch of; each comparison is counted."""
    names, compared = counted_names(1000)
    scans = (*names, *(entry.scan_id for entry in ScanStore(store).entries))
    monkeypatch.setattr("maesil.tasks.probe.probe.annotated", lambda *_, **__: (Classes(("dark",)), scans))
    assert probe(encoder, store, tmp_path / "out", starts=1).answers
    assert len(compared) < 1000


def test_probe__refuses_what_it_cannot_answer(store: Path, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'bright'"):
        probe(encoder, store, tmp_path / "out", classes=("brght",))
    with pytest.raises(ConfigError, match="trained on the split 'train', which cannot test them"):
        probe(encoder, store, tmp_path / "out", split="train")
    with pytest.raises(ConfigError, match="compared with random starts"):
        probe("none", store, tmp_path / "out")
    with pytest.raises(ConfigError, match="cannot be divided into 3 blocks"):
        probe(encoder, store, tmp_path / "out", groups=(3, 2))
    bare = tmp_path / "bare"
    prepare([store.parent / "scans"], bare, PrepareConfig(spacing_mm=2.0, salt="test"), workers=0)
    with pytest.raises(StoreError, match="there is nothing to ask"):
        probe(encoder, bare, tmp_path / "out")
