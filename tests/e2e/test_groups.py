"""Positives from metadata: views of other images of a group, and supcon on groups.

simile-test: timeout 600
Equal hash traces on 1 to 4 ranks, also when stopped and resumed.  Views from a group whose images are
all equal are the views of one image, bit for bit, so partners are of the group and draws are those of
the slot.  Preview pictures of flat images show partners of the group as read by h5py.  supcon on groups
is supcon on equal labels, bit for bit, and its loss is that of plain double loops.
"""
import json
import os

import h5py
import numpy as np
from PIL import Image

import common
from common import loss, run, scratch

os.chdir(scratch)
rng = np.random.default_rng(12)
N, SIDE = 120, 12


def data_set(name, images, groups=None, labels=None, words=()):
    with h5py.File("raw.h5", "w") as f:
        f["images"] = images
        if labels is not None:
            f["labels"] = labels
        if groups is not None:
            f["place"] = groups
    words = [*words, "--groups-key", "place"] if groups is not None else words
    run(1, "prepare", "raw.h5", *words, "--force", "--out", name)
    return name


def noise(n):
    return rng.integers(0, 256, (n, SIDE, SIDE, 1)).astype("u1")


def trace(data, method, **keys):
    path, directory = common.job(data, method, **keys)
    return common.hash_trace(path, directory, [(2, None)])


GROUP = "%s, views_from: group"  # data.train and the key behind it


def ranks_and_stops():
    groups = rng.integers(0, 30, N)
    data = data_set("train.h5", noise(N), groups, groups % 3)
    traces = {}
    for method, keys in ((["simclr"], {}), (["simclr", "views: 3"], {}), (["mocov2", "queue_size: 96"], {}), (["mocov3"], {}),
                         (["nnclr", "queue_size: 96"], {}), (["supcon"], {}), (["supcon", "positives_by: group"], {})):
        path, directory = common.job(GROUP % data, method, **keys)
        name = " ".join(method)
        traces[name] = common.same_traces_of(name, path, directory) if name in ("simclr", "mocov2 queue_size: 96", "supcon positives_by: group") \
            else common.hash_trace(path, directory, [(3, 2), (2, None)])
        assert traces[name] != trace(data, method), f"{name}: views_from has no effect"
    # another seed draws other partners; the key is part of the identity
    path, directory = common.job(GROUP % data, ["simclr"])
    common.hash_trace(path, directory, [(1, 2)])
    text = run(1, "pretrain", path, "data.views_from=image", expect=78)
    assert "data.views_from" in text, text


def equal_images():
    """All images of a group are equal: its views are those of the image."""
    groups = rng.permutation(np.concatenate([np.repeat(np.arange(40), 2), np.repeat(np.arange(40, 50), 3), np.arange(50, 60)]))
    data = data_set("equal.h5", noise(60)[groups], groups)
    for method in (["simclr"], ["simclr", "views: 4"], ["mocov2", "queue_size: 96"]):
        of_group = trace(GROUP % data, method)
        assert of_group == trace(data, method), f"{method}: views of equal images differ"
    mixed = data_set("mixed.h5", noise(60)[rng.permutation(groups)], groups)
    assert trace(GROUP % mixed, ["simclr"]) != trace(mixed, ["simclr"])


def preview():
    """Flat images of different gray: the cells of a row are image, view 1, view 2, view 1, view 2."""
    gray = (np.arange(24) * 10 + 5).astype("u1")
    groups = np.repeat(np.arange(8), 3)[rng.permutation(24)]
    data = data_set("flat.h5", np.broadcast_to(gray[:, None, None, None], (24, SIDE, SIDE, 1)), groups, words=["--range", "0:255"])
    # the normalized view is shown without it, up to rounding
    path, _ = common.job(GROUP % data, ["simclr"], batch="16", augment="{view1: [], view2: []}")
    run(1, "plan", path, "--preview", "views.png")
    picture = np.asarray(Image.open("views.png").convert("L")).astype(int)
    seen, step = set(), picture.shape[0] // 8
    for row in range(8):
        line = picture[row * step + step // 2]
        width = picture.shape[1] / 5
        shown = [int(np.abs(gray.astype(int) - line[int((k + 0.5) * width)]).argmin()) for k in range(5)]
        assert shown[0] == shown[1] == shown[3] == row, shown
        for partner in shown[2], shown[4]:
            assert groups[partner] == groups[row] and partner != row, (row, shown, groups)
            seen.add(partner)
    assert len(seen) > 4


def supcon_on_groups():
    groups = rng.integers(0, 20, N)
    images = noise(N)
    both = data_set("both.h5", images, groups, rng.integers(0, 3, N))
    by_label = data_set("label.h5", images, None, groups)
    of_group = trace(both, ["supcon", "positives_by: group"])
    assert of_group == trace(by_label, ["supcon"]), "supcon on groups is not supcon on equal labels"
    assert of_group != trace(both, ["supcon"])
    # the definition by plain double loops
    n, d, t = 23, 9, 0.2
    z = [rng.normal(size=(n, d)).astype("f4") for _ in range(2)]
    ids = rng.integers(5, 12, n).astype("i4") * 1000
    got = loss("supcon", {"temperature": t, "positives_by": "group"}, {"z1": z[0], "z2": z[1], "group": ids}, 2)["loss"]
    unit = [v / np.sqrt((v**2).sum()) for v in np.concatenate(z).astype("f8")]
    of = list(ids) * 2
    total = 0.0
    for i in range(2 * n):
        similar = [float(unit[i] @ unit[j]) / t for j in range(2 * n)]
        positive = [similar[j] for j in range(2 * n) if j != i and of[j] == of[i]]
        total += np.log(sum(np.exp(similar[j]) for j in range(2 * n) if j != i)) - sum(positive) / len(positive)
    common.check_loss("supcon on groups", got, total / (2 * n))


def reports_and_refusals():
    sizes = [1, 1, 1, 2, 3, 5, 20]
    data = data_set("sizes.h5", noise(sum(sizes)), np.repeat(np.arange(len(sizes)), sizes))
    plain = data_set("plain.h5", noise(60), None, rng.integers(0, 3, 60))
    path, directory = common.job(GROUP % data, ["simclr"], batch="16", schedule="{steps: 1}")
    words = "7 groups of 1 to 20 images (median 2), 3 of one image"
    text = run(1, "plan", path)
    assert words in text and "not used" not in text, text
    text = run(1, "plan", path, "data.views_from=image")
    assert words + "; not used" in text, text
    text = run(2, "pretrain", path)
    common.expect_lines(text, r"groups +7 groups of 1 to 20 images \(median 2\), 3 of one image; further views")
    for key, method in (("data.views_from", ["simclr"]), ("method.positives_by", ["supcon", "positives_by: group"])):
        path, _ = common.job(GROUP % plain if "views" in key else plain, method)
        for command in (1, "plan"), (2, "pretrain"):
            text = run(*command, path, expect=65)
            assert key in text and "plain.h5 has no groups" in text and "--groups-key" in text, text
    for method in "supervised", "cpc":
        path, _ = common.job(GROUP % data, [method], batch="16", augment="{preset: supervised}")
        text = run(1, "plan", path, expect=65 if method == "supervised" else 78)
        assert ("no labels" if method == "supervised" else "data.views_from") in text, text
    # warnings: groups of one image; groups whose images do not meet in a batch
    alone = data_set("alone.h5", noise(60), np.arange(60))
    path, _ = common.job(GROUP % alone, ["simclr"], batch="16")
    assert "60 of 60 images" in run(1, "plan", path)
    pairs = data_set("pairs.h5", noise(N), np.arange(N) // 2)
    path, _ = common.job(pairs, ["supcon", "positives_by: group"], batch="16")
    text = run(1, "plan", path)
    assert "data.views_from=group" in text and "87 %" in text, text
    one = data_set("one.h5", noise(60), np.zeros(60, "i4"))
    path, _ = common.job(one, ["supcon", "positives_by: group"], batch="16")
    assert "one group" in run(1, "plan", path)


def evaluations():
    """Groups change neither embeddings nor evaluations."""
    images, labels = noise(60), np.arange(60) % 3
    with_groups = data_set("with.h5", images, rng.integers(0, 9, 60), labels)
    without = data_set("without.h5", images, None, labels)
    path, directory = common.job(GROUP % with_groups, ["simclr"], batch="16", schedule="{steps: 1}")
    run(1, "pretrain", path)
    accuracy = []
    for data in with_groups, without:
        run(1, "embed", directory, "--data", data, "--force", "--out", data + ".e")
        accuracy.append(json.loads(run(1, "evaluate", "knn", directory, "--train", data, "--test", data, "--json").splitlines()[-1])["top1"])
    assert accuracy[0] == accuracy[1]
    with h5py.File(with_groups + ".e") as f, h5py.File(without + ".e") as g:
        assert (f["features"][()] == g["features"][()]).all() and (f["labels"][()] == g["labels"][()]).all()


ranks_and_stops()
equal_images()
preview()
supcon_on_groups()
reports_and_refusals()
evaluations()
common.remove_scratch()
print("ok")
