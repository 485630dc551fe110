"""A program that plays Topaz in tests: it takes the same arguments, reads and writes the same files, and finds the brightest pixel.

Its trained model is the number of the epoch and the labels. Like Topaz 0.3 it counts too many pixels of a disc when it trains, and knows denoising
models by `--arch` alone, unless the environment says TOPAZ_TAKES_MODELS; what it denoises becomes its mean. What a training is told, and from which
micrographs, it writes into the file that TOPAZ_TOLD names; TOPAZ_AREA is how the area under its test's curve follows from what it is told.
"""

import sys
from pathlib import Path

from stand_in import write_program

STAND_IN = """#!{python}
import argparse, json, os, struct, sys

parser = argparse.ArgumentParser()
parser.add_argument("--version", action="version", version="0.0.1")
commands = parser.add_subparsers(dest="command", required=True)
for name, positional, options in (
    ("preprocess", "files", "scale:int format destdir device:int num-threads:int"),
    ("extract", "paths", "model radius:int threshold:float up-scale:float num-workers:int device:int num-threads:int"),
    ("train", None, "train-images train-targets test-images= test-targets= pi:float radius:int model units:int num-epochs:int "
        "epoch-size:int learning-rate:float save-prefix= output= device:int num-threads:int num-workers:int dropout="),
    ("denoise", "micrographs", "model arch= output= patch-size= device:int num-threads:int"),
):
    command = commands.add_parser(name)
    if positional:
        command.add_argument(positional, nargs="*")
    for option in options.split():
        word, _, kind = option.rstrip("=").partition(":")
        command.add_argument("--" + word, type={{"int": int, "float": float}}.get(kind, str), required=not option.endswith("="))
    if name == "train":
        command.add_argument("--no-pretrained", action="store_true")
given = parser.parse_args()
stem = lambda path: os.path.splitext(os.path.basename(path))[0]
rows = lambda path: [line.rstrip("\\n").split("\\t") for line in open(path)][1:]

def read(path):
    import mrcfile
    return mrcfile.read(path)

def write(path, image):
    import mrcfile, numpy as np
    with mrcfile.new(path, image.astype(np.float32)):
        pass

if given.command == "preprocess":
    assert (given.scale, given.format) == (1, "mrc")
    os.makedirs(given.destdir)
    for path in given.files:
        write(os.path.join(given.destdir, stem(path) + ".mrc"), read(path))
elif given.command == "extract":
    if given.model == "bad":
        sys.exit("Unable to load model: bad")
    if given.model == "mute":
        sys.exit(0)
    print("# device = CPU\\nimage_name\\tx_coord\\ty_coord\\tscore")
    for path in given.paths:
        image = read(path)
        y, x = divmod(int(image.argmax()), image.shape[1])
        print("a word besides")
        print("other" if given.model == "strange" else stem(path), x * int(given.up_scale), y * int(given.up_scale),
              given.radius + given.threshold, sep="\\t")
elif given.command == "train":
    images, targets = rows(given.train_images), rows(given.train_targets)
    side = range(-given.radius, given.radius + 1)
    disc = sum(x * x + y * y <= given.radius**2 for x in side for y in side) * len(side)
    sides = (struct.unpack("<2i", open(path, "rb").read(8)) for _, path in images)
    total = sum(x * y for x, y in sides)
    print("# source\\tsplit\\tp_observed\\tnum_positive_regions\\ttotal_regions", file=sys.stderr)
    print(f"# 0\\ttrain\\t{{len(targets) * disc / total:.5e}}\\t{{len(targets) * disc}}\\t{{total}}", file=sys.stderr)
    if given.num_epochs:
        tests = rows(given.test_images) if given.test_images else []
        if "TOPAZ_TOLD" in os.environ:
            with open(os.environ["TOPAZ_TOLD"], "a") as told:
                lists = {{"train": [name for name, _ in images], "test": [name for name, _ in tests]}}
                told.write(json.dumps(vars(given) | lists) + "\\n")
        area = os.environ.get("TOPAZ_AREA", "0.9 - 0.1 * abs(epoch - 2)")
        with open(given.output, "w") as stream:
            print("epoch\\titer\\tsplit\\tloss\\tge_penalty\\tprecision\\tadjusted_precision\\ttpr\\tfpr\\tauprc", file=stream)
            for epoch in range(1, given.num_epochs + 1):
                for step in range(given.epoch_size):
                    print(epoch, step + 1, "train", 1 / epoch, 1, 0.5, 0.5, 0.5, 0.1, "-", sep="\\t", file=stream)
                if given.test_images:
                    print(epoch, step + 2, "test", 1 / epoch, "-", 0.5, 0.5, 0.5, 0.1, eval(area), sep="\\t", file=stream)
                with open(f"{{given.save_prefix}}_epoch{{epoch}}.sav", "w") as model:
                    model.write(f"{{epoch}}\\n" + open(given.train_targets).read())
else:
    if os.environ.get("TOPAZ_TAKES_MODELS") and not os.path.exists(given.model):
        sys.exit(f"no model {{given.model}}")
    for path in given.micrographs:
        os.makedirs(given.output, exist_ok=True)
        image = read(path)
        write(os.path.join(given.output, stem(path) + ".mrc"), image * 0 + image.mean())
"""


def write_stand_in(path: Path) -> Path:
    """Write the program, to be run by the Python that runs the tests."""
    return write_program(path, STAND_IN.format(python=sys.executable))
