"""Links of the documentation that lead out of docs/ go to the repository. One that leads nowhere ends the build, also
one of the README and of other documents that are not in docs/."""

import logging
import pathlib
import re
import tomllib

log = logging.getLogger("mkdocs.plugins.site")
root = pathlib.Path(__file__).resolve().parent.parent
repository = tomllib.loads((root / "Cargo.toml").read_text())["workspace"]["package"]["repository"]


def on_pre_build(config, **_):
    for document in sorted([*root.glob("*.md"), *root.glob("*/README.md")]):
        for path in re.findall(r"\]\(([^)\s#:]+)[^)\s:]*\)", document.read_text()):
            if not (document.parent / path).exists():
                log.warning("%s links to %s, which is not there", document.relative_to(root), path)


def on_page_markdown(markdown, page, config, **_):
    docs = pathlib.Path(config["docs_dir"])

    def outside(match):
        path, _, part = match[1].partition("#")
        target = (docs / page.file.src_uri).parent.joinpath(path).resolve()
        if target.is_relative_to(docs):
            return match[0]
        if not target.is_relative_to(root) or not target.exists():
            log.warning("%s links to %s, which is not there", page.file.src_uri, match[1])
        return f"]({repository}/blob/main/{target.relative_to(root)}{'#' + part if part else ''})"

    return re.sub(r"\]\((\.\./[^)\s]+)\)", outside, markdown)


def on_post_page(output, page, **_):
    for address in re.findall(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]+)"', output):
        log.warning("%s loads %s from another host", page.file.src_uri, address)
    return output
