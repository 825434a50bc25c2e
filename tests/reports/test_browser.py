"""The checks of pages find each fault in a page that has it, and none in a good one."""

from __future__ import annotations

import pytest
from browser import View

HEAD = '<!doctype html><html lang="en"><title>t</title><meta name="viewport" content="width=device-width"><style>b{color:red}</style>'
GOOD = HEAD + '<h1>a</h1><h2>b</h2><p>text</p><svg role="img" width="50" height="20"><title>s</title><text y="15">x</text></svg>'
FAULTS = {
    "console": (GOOD + "<script>console.error('lost')</script>", "lost"),
    "exception": (GOOD + "<script>nothing()</script>", "nothing is not defined"),
    "network": (GOOD + '<img alt="" src="https://example.com/a.png">', "asks for https://example.com/a.png"),
    "window": (GOOD + '<p style="position:absolute;left:1190px;white-space:nowrap">far too long</p>', "outside of the window"),
    "box": (GOOD + '<p style="width:20px;white-space:nowrap">far too long</p>', "outside of its box"),
    "contrast": (GOOD + '<p style="color:#aaa">pale</p>', "contrast 2.3"),
    "drawing": (GOOD + '<svg width="20" height="20"><title>s</title><text y="15">too long for it</text></svg>', "outside of the drawing"),
    "overlap": (GOOD + '<svg width="90" height="20"><title>s</title><text y="15">one</text><text y="15">two</text></svg>', "each other"),
    "title": (GOOD + '<svg width="90" height="20"><text y="15">one</text></svg>', "without a title"),
    "heading": (GOOD + "<h4>deep</h4>", "a heading of level 4 after 2"),
    "picture": (GOOD + '<img src="data:,">', "a picture without a text"),
    "control": (GOOD + "<input>", "a control without a label"),
    "language": (GOOD.replace(' lang="en"', ""), "has no language"),
}


@pytest.mark.parametrize("dark", [False, True])
def test_a_good_page_has_no_faults(chromium, dark):
    with View(chromium, GOOD, dark=dark) as view:
        assert view.faults() == []


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found(chromium, name, tmp_path):
    html, fault = FAULTS[name]
    (tmp_path / "page.html").write_text(html)
    with View(chromium, tmp_path / "page.html") as view:
        view.page.wait_for_timeout(50)
        found = view.faults()
    assert any(fault in one for one in found), found
