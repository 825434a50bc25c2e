"""Names in code, such as `bp.Trainer`, `t.fit` or `mbp_net_create`, become links to the reference."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes

_OWNERS = {"t": "bp.Trainer", "net": "bp.Network"}
_NAME = re.compile(r"(?:help\()?([A-Za-z_]\w*(?:\.\w+)*)")


def target(text: str, objects: dict[str, Any]) -> Any:
    """What the reference has about the name that a piece of code starts with; None: nothing."""
    match = _NAME.match(text)
    if not match or " = " in text:
        return None
    owner, _, rest = match[1].partition(".")
    name = f"{_OWNERS.get(owner, owner)}.{rest}" if rest else owner
    return objects.get(name) or objects.get(f"bp.{name}" if rest and owner[0].isupper() else "")


def link(app: Any, doctree: nodes.document, page: str) -> None:
    """The event `doctree-resolved`."""
    objects: dict[str, Any] = {}
    for domain in ("py", "c"):
        for name, _, _, home, anchor, _ in app.env.get_domain(domain).get_objects():
            objects.setdefault(name, (home, anchor))
    for code in list(doctree.findall(nodes.literal)):
        found = target(code.astext(), objects)
        if found is None or _is_inside(code, (nodes.reference, nodes.title)):
            continue
        home, anchor = found
        address = f"#{anchor}" if home == page else f"{app.builder.get_relative_uri(page, home)}#{anchor}"
        code.replace_self(nodes.reference("", "", code.deepcopy(), internal=True, refuri=address))


def _is_inside(node: nodes.Node | None, kinds: tuple[type, ...]) -> bool:
    while node is not None:
        if isinstance(node, kinds):
            return True
        node = node.parent
    return False
