"""What is no input though it lies among inputs: files of systems and programs, and what runs of ours wrote."""

import os
import re
from collections import Counter

IN_SYSTEM_FOLDERS, OF_RUNS = "hidden or in system folders", "written by geo-ray"
MAX_SUFFIX = 8  # characters; a longer end of a name is no suffix
MAX_REASONS = 50  # that are told apart

# Of NAS, systems, photo programs and version control; in small letters.
SYSTEM_FOLDERS = frozenset(
    {"@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", ".@__thumb", "@tmp", "@sharebin",
     ".appledouble", ".appledb", ".appledesktop", "network trash folder", "temporary items", "__macosx", ".trashes",
     ".trash", ".spotlight-v100", ".fseventsd", ".documentrevisions-v100", ".temporaryitems", ".ds_store",
     "$recycle.bin", "recycler", "system volume information", "lost+found", ".thumbnails", ".thumbs", "thumbs",
     ".xvpics", ".cache", ".dtrash", ".picasaoriginals", ".comments", ".git", ".svn", ".hg", ".stfolder", ".stversions",
     ".sync", ".dropbox.cache", ".tmp.drivedownload", ".tmp.driveupload", ".nextcloudsync.log", ".syncthing",
     ".ipynb_checkpoints", "__pycache__", ".snapshots", ".zfs"}
)  # fmt: skip
SYSTEM_ENDINGS = (".lrdata", ".lrlibrary", ".cocatalog")  # of folders: previews of Lightroom and Capture One
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "icon\r", ".nomedia", ".picasa.ini"})
RUN_FILES = frozenset({"parts", "predictions", "ledger", "ledger.json", "events.jsonl", "_SUCCESS", "_LOCK"})
# Names that nothing but a run gives, by which its output is known where only names are listed.
OF_RUN = re.compile(r"(^|/)(parts/[0-9a-f]{20}-\d{6}(-last)?\.parquet|predictions/[0-9a-f]{16}\.parquet)$")


def is_system_folder(name: str) -> bool:
    """Whether a folder of this name holds what a system or a program keeps for itself."""
    small = name.casefold()
    return small in SYSTEM_FOLDERS or small.startswith(".trash-") or small.endswith(SYSTEM_ENDINGS)


def is_system(path: str) -> bool:
    """Whether a file is a system's: by a folder of its path, or hidden; macOS keeps its own in ``._a.jpg``."""
    *folders, name = path.split("/")
    return name.startswith(".") or name.casefold() in SYSTEM_FILES or any(map(is_system_folder, folders))


def is_of_run(path: str) -> bool:
    """Whether a path is that of a file which a run has written."""
    return OF_RUN.search(path) is not None


def is_output(folder: str, names: set[str]) -> bool:
    """Whether a local folder with these names in it is the output of a run or an export."""
    if "geo-ray-export.json" in names:
        return True
    if "run.json" not in names or not names & RUN_FILES:
        return False
    try:
        with open(os.path.join(folder, "run.json"), encoding="utf-8") as file:
            return '"bundle_fingerprint"' in file.read(2**16)
    except (OSError, UnicodeDecodeError):
        return False


def reason_of(path: str, kind: str, counts: Counter[str]) -> str:
    """How a file that isn't wanted is counted: by its kind, or by its suffix where it has no kind."""
    if kind:
        return kind
    name = path.rpartition("/")[2]
    suffix = name[name.rfind(".") :].casefold() if "." in name[1:] else ""
    reason = suffix if 0 < len(suffix) <= MAX_SUFFIX else "without a suffix that is known"
    return reason if reason in counts or len(counts) < MAX_REASONS else "of other kinds"


def left_out_text(counts: dict[str, int]) -> str:
    """What was left out, in words: the most first; empty where nothing was."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{number:,} {reason}" for reason, number in ordered if number)
