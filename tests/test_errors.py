"""What is said of errors."""

import pytest

from geo_ray.errors import last_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one"), "one"),
        (OSError("a task\n  File x\nOSError: full\n"), "OSError: full"),
        (KeyError(), "KeyError"),
    ],
)
def test_the_last_line_says_what_went_wrong(error, line):
    assert last_line(error) == line
