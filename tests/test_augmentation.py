"""Changes to an image keep its facts true: boxes go where their pixels go."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from earthgpt import augmentation
from earthgpt.augmentation import augment, crop, hide, relight, spin, turn
from earthgpt.types import Box, OrientedBox, Question, Region, Sample, Sensor

WIDTH, HEIGHT = 40, 24
# Left, top, right, bottom in pixels of the one bright thing.
BRIGHT = (4, 6, 16, 10)


def bright(**facts) -> tuple[Sample, np.ndarray]:
    """A dark image with one bright rectangle, and a sample that says where."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    left, top, right, bottom = BRIGHT
    pixels[top:bottom, left:right] = 255
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    regions = (
        Region(Box.from_pixels(*BRIGHT, (WIDTH, HEIGHT)), "ship"),
        Region(OrientedBox.from_pixels(corners, (WIDTH, HEIGHT)), "ship"),
    )
    return Sample(lambda: pixels, "one", (WIDTH, HEIGHT), Sensor.SAR, **{"regions": regions, **facts}), pixels


def extent(pixels) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels of what is bright."""
    ys, xs = np.nonzero(pixels > 127)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def boxes(sample) -> list[tuple[float, ...]]:
    """The pixel edges of all boxes of a sample."""
    return [region.box.bounds.to_pixels(sample.size) for region in (*sample.regions, *sample.expressions)]


@pytest.mark.parametrize("which", range(8))
def test_a_turn_moves_boxes_with_their_pixels(which):
    sample, pixels = bright()
    sample = replace(sample, expressions=sample.regions)
    turned, moved = turn(sample, pixels, which)
    assert turned.size == moved.shape[::-1]
    assert len(boxes(turned)) == 4
    for box in boxes(turned):
        assert box == pytest.approx(extent(moved))
    assert moved.flags["C_CONTIGUOUS"]


def test_the_eight_turns_are_eight():
    sample, pixels = bright()
    square = np.zeros((WIDTH, WIDTH), np.uint8)
    square[:HEIGHT] = pixels
    assert len({turn(sample, square, which)[1].tobytes() for which in range(8)}) == 8


def test_a_turn_worked_out_by_hand():
    """Mirrored: 40 - 16 = 24 to 40 - 4 = 36. Axes swapped: columns become rows."""
    sample, pixels = bright()
    assert boxes(turn(sample, pixels, 1)[0])[0] == pytest.approx((24, 6, 36, 10))
    assert boxes(turn(sample, pixels, 2)[0])[0] == pytest.approx((4, 14, 16, 18))
    swapped, _ = turn(sample, pixels, 4)
    assert swapped.size == (24, 40)
    assert boxes(swapped)[0] == pytest.approx((6, 4, 10, 16))


def test_an_oriented_box_is_turned_corner_by_corner():
    slanted = OrientedBox(((0.1, 0.2), (0.4, 0.1), (0.5, 0.3), (0.2, 0.4)))
    sample, pixels = bright(regions=(Region(slanted, "ship"),))
    turned, _ = turn(sample, pixels, 1)
    assert {tuple(np.round(corner, 6)) for corner in turned.regions[0].box.corners} == {
        (0.9, 0.2), (0.6, 0.1), (0.5, 0.3), (0.8, 0.4),
    }  # fmt: skip


@pytest.mark.parametrize("window", [(0, 0, 40, 24), (2, 3, 20, 12), (4, 6, 12, 4), (0, 0, 16, 10), (8, 6, 30, 10)])
def test_a_crop_keeps_boxes_on_their_pixels(window):
    sample, pixels = bright()
    cropped, part = crop(sample, pixels, window)
    assert cropped.size == part.shape[::-1] == window[2:]
    assert len(boxes(cropped)) == 2
    for box in boxes(cropped):
        assert box == pytest.approx(extent(part))


@pytest.mark.parametrize(
    ("window", "kept", "complete"),
    [
        ((0, 0, 10, 24), 2, True),  # exactly half of the ship is left
        ((0, 0, 9, 24), 0, False),  # 5 of 12 columns: it is dropped, yet can be seen
        ((0, 0, 4, 24), 0, True),  # nothing of it is left
        ((20, 0, 20, 24), 0, True),
    ],
)
def test_a_crop_drops_what_is_mostly_gone_and_is_complete_only_if_nothing_of_it_shows(window, kept, complete):
    sample, pixels = bright(complete=True, classes=("ship",))
    cropped, _ = crop(sample, pixels, window)
    assert (len(cropped.regions), cropped.complete) == (kept, complete)


def test_a_sample_that_was_not_complete_does_not_become_so():
    sample, pixels = bright(complete=False)
    assert not crop(sample, pixels, (0, 0, 40, 24))[0].complete


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 3)])
def test_other_light_keeps_shape_and_type_and_places(shape):
    pixels = np.zeros(shape, np.uint8)
    pixels[6:10, 4:16] = 255
    for seed in range(20):
        lit = relight(pixels, random.Random(seed))
        assert lit.shape == shape and lit.dtype == np.uint8
        grey = lit.reshape(HEIGHT, WIDTH, -1)[..., 0].astype(int)
        assert grey[8, 10] > grey[20, 30] + 100


def draws(sample, pixels, count=40):
    return [augment(sample, pixels, random.Random(seed)) for seed in range(count)]


def test_the_same_seed_gives_the_same_image():
    sample, pixels = bright()
    for (one, one_pixels), (other, other_pixels) in zip(
        draws(sample, pixels, 5), draws(sample, pixels, 5), strict=True
    ):
        assert one == other and np.array_equal(one_pixels, other_pixels)


def test_every_box_of_an_augmented_image_is_on_bright_pixels():
    sample, pixels = bright()
    for changed, moved in draws(sample, pixels):
        assert changed.size == moved.shape[::-1]
        for left, top, right, bottom in boxes(changed):
            x, y = int((left + right) / 2), int((top + bottom) / 2)
            assert moved[y, x] > moved.mean() + 20


def untouched(changed, sample):
    return changed.size == sample.size and changed.regions == sample.regions


@pytest.mark.parametrize(
    "words",
    [
        {"captions": ("Two ships lie in the north of the harbor.",)},
        {"questions": (Question("What is on the left?", "a ship"),)},
        {"questions": (Question("Where is it?", "Top"),)},
        {"expressions": (Region(Box(0.1, 0.2, 0.3, 0.4), "the ship at the bottom"),)},
    ],
    ids=["caption", "question", "answer", "expression"],
)
def test_an_image_whose_words_name_directions_is_neither_turned_nor_cropped(words):
    sample, pixels = bright(**words)
    assert all(untouched(changed, sample) for changed, _ in draws(sample, pixels))


def test_words_without_directions_allow_turns_but_no_crop_of_counted_objects():
    sample, pixels = bright(captions=("Two ships lie in the harbor, brightly lit.",))  # "brightly" is no "right"
    found = draws(sample, pixels)
    assert len({changed.regions for changed, _ in found}) == 8
    assert {changed.size for changed, _ in found} == {(40, 24), (24, 40)}


def test_an_image_with_a_caption_and_no_objects_may_be_cropped():
    sample, pixels = bright(captions=("A harbor.",), regions=())
    sizes = {changed.size for changed, _ in draws(sample, pixels)}
    assert len(sizes) > 4
    assert all(min(size) >= 24 for size in sizes)


def test_an_image_with_referring_phrases_is_turned_with_their_boxes_and_never_cropped():
    box = Box.from_pixels(*BRIGHT, (WIDTH, HEIGHT))
    sample, pixels = bright(regions=(), expressions=(Region(box, "the bright ship"),))
    found = draws(sample, pixels)
    assert len({changed.expressions for changed, _ in found}) == 8
    for changed, moved in found:
        assert changed.size in ((40, 24), (24, 40))
        left, top, right, bottom = boxes(changed)[0]
        whole = moved[round(top) : round(bottom), round(left) : round(right)]
        assert whole.min() > moved.mean() + 20


@pytest.mark.parametrize(
    "phrase",
    ["the leftmost ship", "Northeast of the pier", "the eastern quay", "the lower-left tank", "the uppermost car"],
)
def test_words_made_of_directions_are_directions(phrase):
    sample, pixels = bright(captions=(phrase,))
    assert all(untouched(changed, sample) for changed, _ in draws(sample, pixels, 12))


@pytest.mark.parametrize("phrase", ["a bright road", "topsoil", "the stopped car"])
def test_words_that_only_contain_directions_are_none(phrase):
    sample, pixels = bright(captions=(phrase,))
    assert not all(untouched(changed, sample) for changed, _ in draws(sample, pixels, 12))


def test_an_object_that_a_crop_cuts_is_named_as_cut_and_others_are_still_known():
    box = Box.from_pixels(*BRIGHT, (WIDTH, HEIGHT))
    away = Region(Box.from_pixels(30, 6, 36, 10, (WIDTH, HEIGHT)), "bridge")
    sample, pixels = bright(regions=(Region(box, "ship"), away), classes=("bridge", "ship"), complete=True)
    part, _ = crop(sample, pixels, (12, 0, 28, 24))  # a third of the ship is left
    assert [one.label for one in part.regions] == ["bridge"] and not part.complete
    assert part.cut == (Region(Box.from_pixels(0, 6, 4, 10, (28, 24)), "ship"),)
    mirrored, _ = turn(part, pixels[:, 12:], 1)
    assert mirrored.cut[0].box.to_pixels((28, 24)) == pytest.approx((24, 6, 28, 10))
    again, _ = crop(part, pixels[:, 12:], (0, 0, 10, 24))  # what was cut stays so, and the bridge is gone
    assert again.regions == () and [one.label for one in again.cut] == ["ship"] and not again.complete
    assert crop(replace(sample, complete=False), pixels, (12, 0, 28, 24))[0].cut == ()  # more may be there anyway


def test_a_spin_turns_about_the_middle_and_mirrors_what_comes_in():
    pixels = np.zeros((41, 61, 3), np.uint8)
    pixels[20, 40:50] = 200  # a line from the middle to the right
    turned = spin(pixels, 90)  # counter-clockwise, as PIL has it
    assert turned.shape == pixels.shape and turned.dtype == np.uint8
    assert (turned[1:10, 30] > 150).all() and turned[20, 40:50].max() == 0
    assert np.array_equal(spin(pixels, 0), pixels)
    flat = np.full((30, 50), 77, np.uint8)
    assert all(np.array_equal(spin(flat, degrees), flat) for degrees in (-45, -7, 30, 45))  # no dark corner


def test_only_images_without_objects_are_turned_by_any_angle(monkeypatch):
    turned = []
    monkeypatch.setattr(augmentation, "spin", lambda pixels, degrees: turned.append(degrees) or pixels)
    pixels = np.zeros((40, 60), np.uint8)
    scene = Sample(Path("a"), "a", (60, 40), Sensor.SAR, label="harbor", choices=("harbor",))
    box = Region(Box(0.1, 0.1, 0.5, 0.5), "ship")
    for seed in range(40):
        augment(replace(scene, regions=(box,)), pixels, random.Random(seed))
        augment(replace(scene, captions=("a ship on the left",)), pixels, random.Random(seed))
    assert not turned
    for seed in range(40):
        augment(scene, pixels, random.Random(seed))
    assert 10 < len(turned) < 30 and min(turned) < -20 and max(turned) > 20 and max(map(abs, turned)) <= 45


def test_a_part_of_a_scene_without_words_or_objects_is_hidden(monkeypatch):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 3), np.uint8)
    for seed in range(50):
        hidden = hide(pixels, random.Random(seed))
        changed = (hidden != pixels).any(axis=-1)
        rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
        part = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1) / (40 * 60)
        assert 0.01 < part < 0.25 and hidden.dtype == np.uint8
        inside = hidden[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (inside == pixels.mean(axis=(0, 1)).astype(np.uint8)).all()
    came = []
    monkeypatch.setattr(augmentation, "hide", lambda pixels, rng: came.append(1) or pixels)
    scene = Sample(Path("a"), "a", (60, 40), Sensor.SAR, label="harbor", choices=("harbor",))
    for seed in range(40):
        augment(replace(scene, regions=(Region(Box(0.1, 0.1, 0.5, 0.5), "ship"),)), pixels, random.Random(seed))
        augment(replace(scene, captions=("a ship",)), pixels, random.Random(seed))
    assert not came
    for seed in range(40):
        augment(scene, pixels, random.Random(seed))
    assert 5 < len(came) < 25
