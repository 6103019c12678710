"""Ids of images: unique within a run by how they are made.

An image that is a file is called by its path below the input, one in a container ``path#key``, where WebDataset would
say ``__url__#__key__``; a table's rows have the ids that it gives them.
"""

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".webp", ".gif",
     ".tif", ".tiff", ".bmp", ".dib", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".heic", ".heif", ".hif", ".avif"}
)  # fmt: skip


def is_image_name(name: str) -> bool:
    """Whether a file's name says that it is an image; macOS's ``._a.jpg`` holds what it knows of a.jpg instead."""
    base = name.rpartition("/")[2]  # as strings: a listing asks this of every name
    return base[base.rfind(".") :].lower() in SUFFIXES and "." in base[1:] and not base.startswith("._")


def container_id(path: str, key: str) -> str:
    """The id of what a container holds under a key; different for any two pairs of path and key."""
    return f"{path.replace('%', '%25').replace('#', '%23')}#{key}"


def readable(text: str) -> str:
    """A text that can be written as UTF-8: a byte of a file's name that is no letter becomes its code."""
    return text.encode("utf-8", "backslashreplace").decode()


class Unique:
    """Gives each key of one container a name of its own: the second ``a`` becomes ``a~2``, in the container's order."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, key: str) -> str:
        """The key, or where it is taken the first free ``key~2``, ``key~3`` and so on."""
        name, number = key, 2
        while name in self._given:
            name, number = f"{key}~{number}", number + 1
        self._given.add(name)
        return name
