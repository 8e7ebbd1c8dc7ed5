"""A virtual environment for each peer: what it pins would fight what seasonrec needs."""

import hashlib
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Final

STAMP: Final = "installed"


def python_of(folder: Path, *, on_top: bool) -> Path:
    """The interpreter of a peer's environment, made anew when its requirements or constraints have changed.

    Args:
        folder: of the peer; holds requirements.txt and constraints.txt, and the environment as .venv.
        on_top: the peer adds to this environment and fights none of its versions, so it sees seasonrec and all that it needs.
    """
    place, files = folder / ".venv", [folder / "requirements.txt", folder / "constraints.txt"]
    python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files) + f"{on_top} {sys.version}".encode()).hexdigest()
    stamp = place / STAMP
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    venv.create(place, clear=True, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *(["--no-deps"] if on_top else []), "-r", str(files[0]), "-c", str(files[1])], check=True)
    if on_top:
        _see_this_environment(python)
    stamp.write_text(wanted)
    return python


def _see_this_environment(python: Path) -> None:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    theirs = Path(subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    # A path alone would not follow this environment's own .pth files, by which an editable seasonrec is found.
    (theirs / "seasonrec.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
