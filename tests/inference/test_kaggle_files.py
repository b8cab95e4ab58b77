"""What goes to Kaggle: the notebook, the dataset, its wheels, and the words about them."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from importlib.metadata import distribution
from pathlib import Path
from runpy import run_path
from zipfile import ZipFile

import pytest

from aneurysm.inference.kaggle_settings import KaggleSettings, read_settings
from aneurysm.inference.wheels import add_wheels

ROOT = Path(__file__).parents[2]
README = (ROOT / "kaggle" / "README.md").read_text()


def test_the_notebook_is_what_the_script_makes_of_kaggle_inference_py_and_holds_its_code_unchanged():
    text = (ROOT / "kaggle" / "inference.ipynb").read_text()
    assert text == run_path(str(ROOT / "kaggle" / "make_notebook.py"))["notebook"]()
    cells = json.loads(text)["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code", "code"]
    assert "".join(cells[-1]["source"]) + "\n" == (ROOT / "kaggle_inference.py").read_text()


def test_the_notebook_finds_code_below_the_input_and_does_not_search_the_series(tmp_path, monkeypatch, capsys):
    for name in ("a/data/aneurysm/labels.py", "comp/kaggle_evaluation/rsna_inference_server.py",
                 "comp/series/aneurysm/labels.py", "b/aneurysm/other.py"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    monkeypatch.setenv("ANEURYSM_INPUT", str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    cell = json.loads((ROOT / "kaggle" / "inference.ipynb").read_text())["cells"][1]
    exec("".join(cell["source"]), {})
    assert sys.path[-2:] == [str(tmp_path / "a" / "data"), str(tmp_path / "comp")]


def test_importing_the_script_does_nothing_and_predict_is_a_plain_function_of_that_name():
    code = "import sys, kaggle_inference as k; print(k.predict.__name__, type(k.predict), 'numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "predict <class 'function'> False\n"


@pytest.fixture
def make():
    return run_path(str(ROOT / "kaggle" / "make_dataset.py"))


def small_bundle(folder: Path) -> Path:
    folder.mkdir()
    (folder / "card.json").write_text("{}")
    return folder


def test_the_dataset_holds_code_bundle_and_metadata_and_is_made_anew(make, tmp_path, capsys):
    config = make["DatasetConfig"](small_bundle(tmp_path / "b"), tmp_path / "out", "me/my-models")
    make["main"](config)
    (tmp_path / "out" / "left.txt").touch()
    make["main"](config)
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"aneurysm", "volume3d", "kaggle_inference.py", "LICENSE", "bundle", "dataset-metadata.json"}
    assert not list((tmp_path / "out").rglob("__pycache__")) and (tmp_path / "out/aneurysm/labels.py").exists()
    metadata = json.loads((tmp_path / "out" / "dataset-metadata.json").read_text())
    assert metadata["id"] == "me/my-models" and len(metadata["licenses"]) == 1


def test_what_is_no_bundle_no_dataset_or_no_id_is_named(make, tmp_path):
    with pytest.raises(ValueError, match="expected a bundle, found no card.json"):
        make["main"](make["DatasetConfig"](tmp_path, tmp_path / "out", "me/models"))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="expected a dataset or nothing, found other files"):
        make["main"](make["DatasetConfig"](small_bundle(tmp_path / "b"), tmp_path, "me/models"))
    for wrong in ("", "models", "me/m", "me/Two Words"):
        with pytest.raises(ValueError, match="id: expected user/name"):
            make["DatasetConfig"](id=wrong)


def test_without_wheels_to_be_had_it_says_so_and_leaves_nothing_half_made(make, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    config = make["DatasetConfig"](small_bundle(tmp_path / "b"), tmp_path / "out", "me/models", python="3.11")
    with pytest.raises(ValueError, match=r"pip could not download pylibjpeg.*this needs internet"):
        make["main"](config)
    assert sorted(os.listdir(tmp_path)) == ["b"]


def wheel_of(package: str, name: str, folder: Path) -> None:
    """A wheel with the files of an installed package."""
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(folder / name, "w") as archive:
        for file in distribution(package).files:
            if not file.as_posix().startswith("..") and "__pycache__" not in file.parts:
                archive.write(file.locate(), file.as_posix())


def test_pydicom_sees_decoders_in_wheels_where_they_are_not_installed(tmp_path):
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for package in ("pylibjpeg", "pylibjpeg-rle", "pylibjpeg-openjpeg"):
        tag = "py3-none-any" if package == "pylibjpeg" else f"{version}-{version}-linux_{os.uname().machine}"
        wheel_of(package, f"{package.replace('-', '_')}-9.0-{tag}.whl", tmp_path / "bundle" / "wheels")
    (tmp_path / "site").mkdir()
    for name in ("numpy", "pydicom", "packaging"):
        files = {file.parts[0] for file in distribution(name).files if file.parts[0] != ".."}
        for part in files:
            (tmp_path / "site" / part).symlink_to(distribution(name).locate_file(part))
    code = """if True:
        from pathlib import Path
        from aneurysm.inference.wheels import add_wheels
        print(add_wheels(Path("bundle")))
        from pydicom.pixels import get_decoder
        from pydicom.uid import JPEG2000Lossless, RLELossless
        from aneurysm.dicom import pixels
        print(pixels.decode_rle is not None, *get_decoder(RLELossless).available_plugins)
        print(*get_decoder(JPEG2000Lossless).available_plugins)
    """
    there = {"PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}"}

    def run() -> list[str]:
        command = [sys.executable, "-S", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    output, rle, jpeg = run()
    assert output.count(": added") == 3
    assert rle.startswith("True ") and "pylibjpeg" in rle.split() and jpeg == "pylibjpeg"
    for wheel in (tmp_path / "bundle" / "wheels").iterdir():
        wheel.unlink()
    assert run() == ["[]", "False pydicom", ""]


def test_wheels_of_what_can_be_imported_or_does_not_fit_or_is_damaged_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, module in (("json_again-1-py3-none-any", "json"), ("old-1-cp26-cp26-linux_x86_64", "old_module"),
                         ("fresh-1-py3-none-any", "fresh_module")):  # fmt: skip
        with ZipFile(wheels / f"{name}.whl", "w") as archive:
            archive.writestr(f"{module}/__init__.py", "x = 1")
    (wheels / "bad-1-py3-none-any.whl").write_text("no archive")
    (wheels / "noname.whl").write_text("no archive")
    output = dict(line.split(": ", 1) for line in add_wheels(tmp_path / "bundle"))
    assert output["json_again-1-py3-none-any.whl"] == "left out, since json can be imported"
    assert output["old-1-cp26-cp26-linux_x86_64.whl"] == output["noname.whl"]
    assert output["noname.whl"] == "left out, since it is for another Python or system"
    assert output["bad-1-py3-none-any.whl"] == "left out, File is not a zip file"
    assert output["fresh-1-py3-none-any.whl"] == "added"
    import fresh_module

    assert fresh_module.x == 1 and Path(sys.path[-1]) in Path(fresh_module.__file__).parents


def test_every_script_flag_and_variable_in_the_words_on_kaggle_exists():
    commands = re.findall(r"python ((?:[\w-]+/)*[\w-]+\.py)([^\n`]*)", README)
    assert len(commands) >= 4
    for script, rest in commands:
        made = run_path(str(ROOT / script)).values()
        known = {field for config in made if is_dataclass(config) for field in config.__dataclass_fields__}
        assert set(re.findall(r"--(\w+)", rest)) <= known, script
    variables = set(re.findall(r"ANEURYSM_[A-Z_]+", README))
    assert read_settings(dict.fromkeys(variables, "1")) and len(variables) == len(fields(KaggleSettings))
