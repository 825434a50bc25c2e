"""Chromium for tests of pages: what a reader would find wrong in a page, as lists that must be empty.

    with View(chromium, path_or_html, width=390) as view:
        assert view.faults() == []
        view.page.click("button")          # a page of playwright

The fixture `chromium` (tests/conftest.py) skips the test where playwright or Chromium is missing.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def program() -> str | None:
    """The path of Chromium; None if it is missing."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def launch(playwright: Any) -> Any:
    """A headless Chromium. It has no sandbox, which root may not use in a container; all pages are ours."""
    return playwright.chromium.launch(executable_path=program(), args=["--no-sandbox"])


class View:
    """A page in a window of this width, with the errors that it reports and the addresses that it asks for.

    source: HTML, or the path of a file, or an address. All addresses but files, data and this machine are refused and counted.
    """

    def __init__(self, chromium: Any, source: str | os.PathLike[str], width: int = 1200, height: int = 800, dark: bool = False) -> None:
        self.errors: list[str] = []
        self.page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.route("**/*", self._route)
        if isinstance(source, str) and source.lstrip().startswith("<"):
            self.page.set_content(source)
        else:
            address = str(source)
            self.page.goto(address if "://" in address else Path(address).resolve().as_uri())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()

    def _route(self, route: Any) -> None:
        address = route.request.url
        if address.startswith(("file:", "data:", "blob:", "http://127.0.0.1", "http://localhost")):
            route.continue_()
        else:
            self.errors.append(f"asks for {address}")
            route.abort()

    def faults(self) -> list[str]:
        """Errors of the console, requests to the network, texts outside of their boxes or on other texts, headings that skip a level,
        pictures without a text, controls without a label, and texts whose contrast is below 4.5 (WCAG 2.2, AA; 3 for large ones)."""
        return [*self.errors, *self.page.evaluate(_FAULTS)]

    def screenshot(self, path: str | os.PathLike[str]) -> None:
        """The whole page as a picture."""
        self.page.screenshot(path=str(path), full_page=True)


_FAULTS = r"""() => {
    const found = [], say = (what, text) => found.push(`${what}: ${text.trim().replace(/\s+/g, ' ').slice(0, 60)}`);
    const seen = element => element.checkVisibility({opacityProperty: true, visibilityProperty: true});
    const numbers = colour => colour.match(/[\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(x => (x /= 255) <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
        .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {  // the colour behind a text; null if a picture is there
        for (let e = element; e; e = e.parentElement) {
            const style = getComputedStyle(e), [r, g, b, a = 1] = numbers(style.backgroundColor);
            if (style.backgroundImage !== 'none') return null;
            if (a === 1) return [r, g, b];
        }
        return matchMedia('(prefers-color-scheme: dark)').matches && getComputedStyle(document.documentElement).colorScheme.includes('dark')
            ? [18, 18, 18] : [255, 255, 255];
    };
    const scrolls = e => e && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node; (node = texts.nextNode());) {
        const element = node.parentElement;
        if (!node.data.trim() || !seen(element) || element.closest('script, style, svg, title, option, noscript')) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        const box = range.getBoundingClientRect();
        if (box.width <= 1 || box.height <= 1) continue;  // only for screen readers
        if (!scrolls(element) && (box.right > innerWidth + 1 || box.left < -1)) say('outside of the window', node.data);
        const own = element.getBoundingClientRect(), shown = getComputedStyle(element);
        if (shown.display !== 'inline' && !scrolls(element) && (box.right > own.right + 2 || box.left < own.left - 2))
            say('outside of its box', node.data);
        const back = behind(element), [r, g, b, a = 1] = numbers(shown.color);
        if (back && !element.closest(':disabled')) {
            const front = [r, g, b].map((x, i) => a * x + (1 - a) * back[i]), [x, y] = [light(front), light(back)].sort((p, q) => q - p);
            const size = parseFloat(shown.fontSize), large = size >= 24 || (size >= 18.5 && shown.fontWeight >= 700);
            if ((x + 0.05) / (y + 0.05) < (large ? 3 : 4.5)) say(`contrast ${((x + 0.05) / (y + 0.05)).toFixed(1)}`, node.data);
        }
    }
    for (const svg of document.querySelectorAll('svg')) {
        if (!seen(svg) || svg.parentElement.closest('svg, [aria-hidden=true]') || svg.closest('[aria-hidden=true]')) continue;
        const frame = svg.getBoundingClientRect();
        const labels = [...svg.querySelectorAll('text')].filter(seen).map(text => [text.textContent, text.getBoundingClientRect()])
            .filter(([, box]) => box.width > 0);
        labels.forEach(([text, box], i) => {
            if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
                say('outside of the drawing', text);
            for (const [other, next] of labels.slice(i + 1)) {
                const wide = Math.min(box.right, next.right) - Math.max(box.left, next.left);
                const high = Math.min(box.bottom, next.bottom) - Math.max(box.top, next.top);
                if (wide > 1 && high > 0.25 * Math.min(box.height, next.height)) say('texts on each other', `${text} / ${other}`);
            }
        });
        const named = svg.getAttribute('aria-label') || svg.getAttribute('aria-labelledby') || svg.querySelector(':scope > title');
        if (!named && labels.length)
            say('a drawing without a title', svg.textContent);
    }
    let level = 0;
    for (const heading of [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].filter(seen)) {
        const own = Number(heading.tagName[1]);
        if (own > level + 1) say(`a heading of level ${own} after ${level}`, heading.textContent);
        level = own;
    }
    for (const image of document.images) if (!image.hasAttribute('alt')) say('a picture without a text', image.src.slice(0, 60));
    for (const control of document.querySelectorAll('input:not([type=hidden]), select, textarea, button'))
        if (seen(control) && !(control.labels?.length || control.getAttribute('aria-label') || control.getAttribute('aria-labelledby')
            || control.textContent.trim() || control.title)) say('a control without a label', control.outerHTML);
    if (!document.documentElement.lang) say('the page', 'has no language');
    if (!document.title) say('the page', 'has no title');
    return found;
}"""
