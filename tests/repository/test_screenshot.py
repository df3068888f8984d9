"""The picture of the inspector's page."""

from tests.screenshot import LARGEST, PICTURE


def test_the_picture_is_there_and_small() -> None:
    """It is a PNG that a README can load at once; `python -m tests.screenshot` makes it anew."""
    data = PICTURE.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) <= LARGEST
