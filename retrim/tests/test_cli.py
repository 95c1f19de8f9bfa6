"""The command line as its users see it: what it prints, what it leaves, how it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from retrim import __version__
from retrim.cli import app
from retrim.errors import ConfigError
from retrim.runtime import isa
from retrim.zoo.training import load_state

TEXT = "".join(f"def f{i}(x):\n    return x * {i} + {i % 7}\n\n" for i in range(900))
RECIPE = """
version = 1
[model]
vocabulary = 320
width = 32
layers = 2
heads = 2
context = 32
[corpus]
path = "text.py"
[train]
steps = {steps}
batch = 4
[prune]
steps = 6
batch = 4
harden_at = 3
pruner = {{ type = "Magnitude" }}
[[prune.plan]]
weights = "blocks.*.ffn.*.weight"
structure = {{ type = "BlockColumns", rows = 32 }}
density = 0.5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a recipe, a finished run of it and its artifact."""
    path = tmp_path_factory.mktemp("cli")
    (path / "text.py").write_text(TEXT)
    (path / "small.toml").write_text(RECIPE.format(steps=6))
    assert call(path, "prune", "small.toml", "--json", "prune.json").returncode == 0
    assert call(path, "pack", "runs/small", "--json", "pack.json").returncode == 0
    return path


def call(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "retrim.cli", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def refused(done: subprocess.CompletedProcess[str], sentence: str, status: int = 2) -> None:
    assert (done.returncode, done.stderr) == (status, f"retrim: {sentence}\n")


MODEL = "runs/small/model.safetensors"


def test_version_and_help(tmp_path: Path) -> None:
    assert call(tmp_path, "--version").stdout == f"retrim {__version__}\n"
    words = call(tmp_path, "--help").stdout
    for command in ("demo", "prune", "pack", "profile", "inspect", "eval", "bench"):
        assert f" {command} " in words


def test_results_of_prune_and_pack(folder: Path) -> None:
    pruned = json.loads((folder / "prune.json").read_text())
    packed = json.loads((folder / "pack.json").read_text())
    assert pruned["host"]["cpu"] and len(pruned["weights"]) == 4
    assert packed["density"] == 0.5 and packed["bytes"] == (folder / MODEL).stat().st_size


def test_inspect_shows_every_layer(folder: Path) -> None:
    done = call(folder, "inspect", "runs/small", "--json", "inspect.json", COLUMNS="100")
    found = json.loads((folder / "inspect.json").read_text())
    assert done.returncode == 0 and done.stderr == ""
    assert [layer["shape"] for layer in found["layers"]] == [[128, 32], [32, 128]] * 2
    for layer in found["layers"]:
        assert layer["name"] in done.stdout and f"{layer['bytes']:,}" in done.stdout
    assert f"{found['parameters']:,} parameters" in done.stdout


def test_inspect_needs_no_torch(folder: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from retrim.cli import main\n"
        f"sys.argv = ['retrim', 'inspect', {MODEL!r}]\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["demo", "prune x", "pack x", "eval x", "bench x"])
def test_commands_that_need_torch_say_so(folder: Path, command: str) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from retrim.cli import main\n"
        f"sys.argv = ['retrim', *{command.split()!r}]\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    refused(done, f"retrim {command.split()[0]} needs torch: pip install 'retrim[torch]'")


def test_eval_scores_the_packed_model(folder: Path) -> None:
    done = call(folder, "eval", MODEL, "--corpus", "text.py", "--json", "eval.json")
    found = json.loads((folder / "eval.json").read_text())
    assert done.returncode == 0 and "next-token accuracy" in done.stdout
    assert 0 < found["accuracy"] < 1 and found["tokens"] > 300
    assert (found["same_corpus"], found["trained_on"]) == (True, "text.py")
    assert "trained on other text" not in done.stdout
    (folder / "other.py").write_text(TEXT + "x = 1\n")
    done = call(folder, "eval", MODEL, "--corpus", "other.py", COLUMNS="200")
    assert (
        "The model was trained on other text, text.py: name it by --corpus to score on that." in done.stdout
    )


def test_bench_times_and_draws(folder: Path) -> None:
    done = call(folder, "bench", MODEL, "--seconds", "0.2", "--json", "b.json", "--html", "b.html")
    found = json.loads((folder / "b.json").read_text())
    assert found["settings"]["tokens"] == 32  # the model's context
    row = found["rows"][0]
    assert done.returncode == 0, done.stderr
    assert f"{row['speedup']:.2f}×" in done.stdout
    assert (folder / "b.html").read_text().startswith("<!DOCTYPE html>")


def test_portable_kernels_give_the_same_score(folder: Path) -> None:
    for name in ("portable", ""):
        done = call(folder, "eval", MODEL, "--corpus", "text.py", "--json", f"{name}.json", RETRIM_ISA=name)
        assert done.returncode == 0
    portable, best = (json.loads((folder / f"{name}.json").read_text()) for name in ("portable", ""))
    assert portable["host"]["isa_selected"] == "portable"
    assert portable["perplexity"] == pytest.approx(best["perplexity"], rel=1e-5)


def test_packing_says_what_to_expect(folder: Path) -> None:
    own = {"RETRIM_PROFILE": "own.json", "COLUMNS": "80"}
    done = call(
        folder, "pack", "runs/small", "int8.safetensors", "--precision", "int8,bf16", "--tokens", "16", **own
    )
    assert done.returncode == 0, done.stderr
    assert "blocks.1.ffn.down.weight" in done.stdout and " int8 " in done.stdout and " bf16 " in done.stdout
    assert "Expected of the packed layers together: " in done.stdout
    shown = call(folder, "profile", "int8.safetensors", "--tokens", "16", "--json", "p.json", **own)
    assert shown.returncode == 0, shown.stderr
    found = json.loads((folder / "p.json").read_text())
    assert found["path"] == "own.json" and len(found["layers"]) == 8
    for layer in found["layers"]:
        assert layer["choice"]["measured"] and layer["choice"]["isa"] in isa.available()
    assert f"own.json: {len(found['entries'])} times on {found['machine']['processor']}" in shown.stdout
    done = call(folder, "bench", "int8.safetensors", "--tokens", "16", "--seconds", "0.2", **own)
    assert done.returncode == 0 and found["layers"][0]["choice"]["variant"] in done.stdout
    assert "packed over PyTorch dense in fp32" in done.stdout


def test_profile_needs_no_torch(folder: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from retrim.cli import main\n"
        f"sys.argv = ['retrim', 'profile', {MODEL!r}, '--calibrate', '--tokens', '2', '--profile', 'q.json']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 tokens, 1 thread" in done.stdout
    entries = json.loads((folder / "q.json").read_text())["entries"]
    assert entries and all(entry["isa"] != "torch" for entry in entries)


def test_wrong_profiles_are_refused(folder: Path) -> None:
    (folder / "wrong.json").write_text("{")
    sentence = (
        "profile 'wrong.json' must be written by retrim, but is damaged or of another kind: remove it and call "
        "`retrim profile --calibrate`"
    )
    refused(call(folder, "profile", RETRIM_PROFILE="wrong.json"), sentence)
    refused(call(folder, "bench", MODEL, "--tokens", "16", RETRIM_PROFILE="wrong.json"), sentence)


def damaged(folder: Path, change: Any) -> Path:
    path = folder / "damaged.safetensors"
    path.write_bytes(change((folder / MODEL).read_bytes()))
    return path


def test_damaged_artifacts_are_refused_by_every_command(folder: Path) -> None:
    cut = damaged(folder, lambda data: data[: len(data) // 2])
    for command in ("inspect", "eval", "bench"):
        done = call(folder, command, cut.name)
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"retrim: artifact {cut.name!r} ends within its tensors, ")
        assert done.stdout == ""
    refused(
        call(folder, "inspect", damaged(folder, lambda data: b"no such thing at all, not even near").name),
        "artifact 'damaged.safetensors' must be a safetensors file, but its header is none: it is damaged or of "
        "another kind",
    )
    flipped = damaged(folder, lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    done = call(folder, "inspect", flipped.name)
    assert done.returncode == 2 and "does not match its checksum: the file is damaged" in done.stderr


def test_bad_words_are_refused(folder: Path) -> None:
    refused(
        call(folder, "inspect", "missing.safetensors"),
        "artifact 'missing.safetensors' must be a file that can be read: No such file or directory",
    )
    refused(
        call(folder, "prune", "missing.toml"),
        "recipe 'missing.toml' must be a file that can be read: No such file or directory",
    )
    refused(
        call(folder, "bench", MODEL, "--threads", "0"), "threads must be a whole number from 1 to 256, not 0"
    )
    refused(
        call(folder, "bench", MODEL, "--tokens", "33"),
        "tokens must be at most the model's context 32, not 33",
    )
    refused(
        call(folder, "eval", MODEL, "--corpus", "none"), "corpus 'none' must be a file or folder that exists"
    )
    (folder / "odd.toml").write_text(RECIPE.format(steps=6) + "densty = 1\n")
    refused(
        call(folder, "prune", "odd.toml"),
        "recipe 'odd.toml': prune.plan.0 must have no key 'densty': its keys are density, structure, weights",
    )
    refused(
        call(folder, "bench", MODEL, "--tokens", "16", RETRIM_ISA="mmx"),
        f"RETRIM_ISA must be one of {', '.join(isa.available())} on this processor, not 'mmx'",
    )


def test_files_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    refused(
        call(folder, "prune", "small.toml", "--out", str(file / "run")),
        f"folder {str(file / 'run')!r} must be one that can be written to: Not a directory; choose another with "
        "--out",
    )
    refused(
        call(folder, "inspect", MODEL, "--json", str(file / "x.json")),
        f"file {str(file / 'x.json')!r} must lie in a folder that is there, but {str(file)!r} is none: make it first",
    )
    refused(
        call(folder, "pack", "runs/small", str(file / "m.safetensors")),
        f"artifact {str(file / 'm.safetensors')!r} cannot be written: Not a directory; free some space or choose "
        "another folder",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "text.py").write_text(TEXT)
    (tmp_path / "long.toml").write_text(RECIPE.format(steps=100_000))
    program = (
        "import sys; from retrim.zoo import training; training.SAVE_EVERY_SECONDS = 0\n"
        "from retrim.cli import main; sys.argv = ['retrim', 'prune', 'long.toml']; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 100
    while not list(tmp_path.glob("runs/long/dense-*.pt")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130
    found = re.fullmatch(
        r"retrim: training was interrupted after step (\d+) of 100000; the same command goes on from there\n",
        words,
    )
    assert found is not None
    (checkpoint,) = tmp_path.glob("runs/long/dense-*.pt")
    assert load_state(checkpoint)["step"] == int(found[1])


def test_results_that_could_not_be_kept_are_told_before_any_work(tmp_path: Path) -> None:
    """Checked with the options themselves: files and recipes that they name need not be there."""
    gone = str(tmp_path / "gone" / "x.json")
    folders = [
        ["experiment", "slr", "r.toml", "--json", gone],
        ["glue", "--task", "sst2", "--recipe", "r.toml", "--json", gone],
        ["levels", "r.toml", "--table", gone],
        ["levels", "r.toml", "--artifact", gone],
        ["report", "r.json", "--html", gone],
        ["simulate", "--json", gone],
    ]
    for arguments in folders:
        with pytest.raises(ConfigError) as caught:
            app(arguments, standalone_mode=False)
        assert str(caught.value) == (
            f"file {gone!r} must lie in a folder that is there, but {str(tmp_path / 'gone')!r} is none: make it first"
        )
    with pytest.raises(ConfigError, match="must be a file to write to, but is a folder: name a file in it"):
        app(["prune", "r.toml", "--json", str(tmp_path)], standalone_mode=False)
    with pytest.raises(ConfigError, match=r"^a picture must end in \.png, \.svg or \.pdf, not \.xyz$"):
        app(["experiment", "slr", "r.toml", "--plot", "x.xyz"], standalone_mode=False)


def test_help_says_what_is_taken_where_nothing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for command, said in (
        ("glue", "runs/glue-TASK"),
        ("eval", "Python's standard library"),
        ("pack", "fp32"),
    ):
        with pytest.raises(SystemExit):
            app([command, "--help"])
        shown = re.sub(r"[^\w/.'-]+", " ", capsys.readouterr().out)
        assert f"default {said}" in shown


def test_folders_that_are_no_runs(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    refused(
        call(tmp_path, "pack", "nothing"), "run 'nothing' must be a folder, but there is none of that name"
    )
    refused(
        call(tmp_path, "pack", "checkpoint"),
        "checkpoint 'checkpoint' must be pruned to be packed, but holds no retrim.json: prune it with retrim glue, or save "
        "it with retrim.torch.huggingface.save_pruned",
    )
    (folder / "wrong.toml").write_text(RECIPE.format(steps=6).replace("blocks.*.ffn", "block.*.ffn"))
    done = call(folder, "prune", "wrong.toml")
    assert done.returncode == 2 and "must match a parameter of the model" in done.stderr
    assert "dense" not in done.stdout
    assert not (folder / "runs" / "wrong").exists()
