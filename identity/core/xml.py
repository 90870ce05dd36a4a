"""The one XML loader: no DTD, no entities, no network, bounded size and depth."""

from __future__ import annotations

import zlib

from lxml import etree

from identity.core.errors import Invalid

XML_MAX = 262_144
INFLATED_MAX = 131_072
DEPTH_MAX = 64
NODES_MAX = 10_000


def parse(data: bytes) -> etree._Element:
    """The root element; raises `Invalid` for anything that is not small, plain XML without a DOCTYPE."""
    if len(data) > XML_MAX:
        raise _bad("too large")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\x00" in data:
        raise _bad("has a DOCTYPE or is not UTF-8")
    # Whatever encoding the document declares, it is read as UTF-8: in UTF-7 a DOCTYPE has no "<".
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        dtd_validation=False,
        load_dtd=False,
        huge_tree=False,
        remove_comments=False,
        remove_pis=False,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise _bad(str(error)[:256]) from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise _bad("has a DOCTYPE")
    for number, node in enumerate(root.iter()):
        if number > NODES_MAX or not isinstance(node.tag, str):
            raise _bad("too many nodes, comments or processing instructions")
    if _depth(root) > DEPTH_MAX:
        raise _bad("nested too deeply")
    return root


def inflate(data: bytes) -> bytes:
    """Raw DEFLATE of at most 128 kB, nothing behind it; raises `Invalid`."""
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = decompressor.decompress(data, INFLATED_MAX)
    except zlib.error as error:
        raise _bad(str(error)) from None
    if decompressor.unconsumed_tail or decompressor.unused_data or not decompressor.eof:
        raise _bad("compressed data is too large or incomplete")
    return plain


def text_of(element: etree._Element) -> str:
    """The whole text of a leaf, without outer space; raises `Invalid` for an element with children, whose `.text`
    would be the first piece only."""
    if len(element):
        raise _bad("a value has elements inside")
    return (element.text or "").strip()


def _depth(root: etree._Element) -> int:
    deepest, stack = 0, [(root, 1)]
    while stack:
        node, level = stack.pop()
        deepest = max(deepest, level)
        stack.extend((child, level + 1) for child in node)
    return deepest


def _bad(detail: str) -> Invalid:
    return Invalid("The message is not valid XML.", detail, code="invalid_xml")
