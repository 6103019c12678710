"""A Python that has all that the project needs and not the project: it runs from its source tree, as in a Ray job."""

import os
import subprocess
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = ("geo_ray", "__editable__")  # how what installing the project leaves is called


def make_python(folder: Path) -> Path:
    """A Python whose packages are those of this one, but for the project itself."""
    venv.create(folder, with_pip=False, symlinks=True)
    packages = folder / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not path.name.startswith(OURS) and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    (next(folder.glob("lib/python*")) / "site-packages" / "all.pth").write_text(f"{packages}\n")
    python = folder / "bin" / "python"
    asked = "import importlib.metadata as m, importlib.util as u; print(u.find_spec('geo_ray')); m.version('geo-ray')"
    found = subprocess.run([python, "-c", asked], capture_output=True, text=True, cwd=folder, check=False)
    assert found.stdout == "None\n", found.stdout + found.stderr
    assert "PackageNotFoundError" in found.stderr
    return python


def environment() -> dict[str, str]:
    """The variables of a process that runs from the source tree, as ``ray job submit`` sets them."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
