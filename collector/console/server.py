"""The console's addresses: each page as HTML, JSON and CSV, the login, and the files that pages load."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import mimetypes
from collections.abc import Mapping
from functools import cache, partial
from importlib.resources import files
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec
import structlog
from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined
from multidict import MultiDict, MultiMapping

from collector import __version__
from collector.console import drawing
from collector.console.access import COOKIE, Access
from collector.console.lanes import lane_svg
from collector.console.page import Page, PageRequest
from collector.console.pages import PAGES
from collector.console.period import LAST_CHOICES, iso
from collector.console.store import ConsoleStore
from collector.console.table import Kind, Table, View
from collector.errors import CollectorError, UsageError
from collector.owner.condition import judged
from collector.owner.instance import Owner

log = structlog.get_logger(__name__)

BODY_BYTES_MAX: Final = 1 << 18
"""Of a form; the SQL of the SQL page is the largest."""
RENEW_SECONDS: Final = 10
_FOR_EVER: Final = "public, max-age=31536000, immutable"


def add_console(application: web.Application, owner: Owner, access: Access) -> None:
    """Add every page to a listener, whose guard lets in whom `access` knows."""
    store = ConsoleStore(owner.store, owner.clock)
    router = application.router
    for page in PAGES:
        answer = partial(_answer, page, owner, store, access)
        # A field takes whatever an id may hold, slashes and braces too.
        pattern = page.path.replace("}", ":.+}")
        for suffix in dict.fromkeys((".json", ".csv", *page.downloads, "")):
            router.add_get(pattern + suffix, answer)
            if page.posts:
                router.add_post(pattern + suffix, answer)
    router.add_get("/static/{hash}/{name:.+}", _static)
    if access.has_token:
        router.add_get("/login", partial(_login_form, access))
        router.add_post("/login", partial(_log_in, access))
        router.add_post("/logout", _log_out)

    async def close(application: web.Application) -> None:
        await store.close()

    application.on_cleanup.append(close)


def is_open(path: str) -> bool:
    """Whether a path is for those too who have not logged in."""
    return path == "/login" or path.startswith("/static/")


def refuse(request: web.Request, access: Access) -> web.Response:
    """Answer one who is not known: a browser is led to the login, others are told what is missing."""
    if not access.has_token:
        return web.Response(status=403, text="ask by a loopback name or address\n")
    if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
        target = "/login?" + urlencode({"next": request.path_qs}) if request.path_qs != "/" else "/login"
        return web.Response(status=303, headers={"Location": target})
    return web.Response(
        status=401,
        text="the token of PAI_COLLECTOR_SERVICE_TOKEN is needed\n",
        headers={"WWW-Authenticate": "Bearer"},
    )


async def _answer(
    page: Page, owner: Owner, store: ConsoleStore, access: Access, request: web.Request
) -> web.StreamResponse:
    path, suffix = _parts(request.rel_url.raw_path, page)
    now = owner.server_clock.now()
    query = request.query if request.method == "GET" else await _form(request)
    asked = PageRequest(owner, store, path, request.match_info, query, now, request)
    try:
        if suffix in page.downloads and (sent := await page.downloads[suffix](asked)) is not None:
            return sent
        view = await page.view(asked)
    except UsageError as error:
        view = View("error.html", {"error": str(error), "hint": error.hint or ""}, "Not understood", 400, renews=False)
    except web.HTTPSeeOther as error:
        return web.Response(status=error.status, headers={"Location": str(error.location)})
    except web.HTTPNotFound as error:
        view = View("error.html", {"error": error.text or "", "hint": ""}, "Not found", 404, renews=False)
    except CollectorError as error:
        # Such as the journal's. Pages that do without it are there all the same.
        log.warning("console_page_failed", path=path, error=str(error))
        view = View("error.html", {"error": str(error), "hint": error.hint or ""}, "Not known at present", 503)
    if suffix == ".json":
        return _json(view, path, now)
    if suffix == ".csv" and view.status == 200:
        return _csv(view, path, query.get("table", ""))
    return await _html(view, page, asked, access)


async def _form(request: web.Request) -> MultiMapping[str]:
    """The fields of a form; files in it are nothing that a page reads."""
    return MultiDict((name, value) for name, value in (await request.post()).items() if isinstance(value, str))


async def _html(view: View, page: Page, asked: PageRequest, access: Access) -> web.Response:
    try:
        verdict = await judged(asked.owner)
    except CollectorError as error:
        verdict = None
        log.warning("console_verdict_failed", error=str(error))
    try:
        period = asked.period()
    except UsageError:
        period = None
    has_address = asked.http.method == "GET"
    suffix = f"?{urlencode(list(asked.query.items()))}" if asked.query and has_address else ""
    text = _templates().get_template(view.template).render(
        view.values,
        title=view.title or page.title,
        pages=[known for known in PAGES if known.title],
        page=page,
        path=asked.path,
        asked=asked,
        tables=view.tables(),
        has_address=has_address,
        json_href=f"{asked.path}.json{suffix}",
        csv_href=f"{asked.path}.csv{suffix}",
        verdict=verdict,
        period=period,
        now=iso(asked.now),
        renew_seconds=RENEW_SECONDS if view.renews else 0,
        may_log_out=access.has_token and COOKIE in asked.http.cookies,
    )  # fmt: skip
    response = web.Response(text=text, content_type="text/html", status=view.status, headers=dict(view.headers))
    response.enable_compression()
    return response


def _json(view: View, path: str, now: int) -> web.Response:
    body = msgspec.json.encode({"page": path, "now": iso(now), **view.values}, enc_hook=str)
    response = web.Response(body=body, content_type="application/json", status=view.status, headers=dict(view.headers))
    response.enable_compression()
    return response


def _csv(view: View, path: str, name: str) -> web.Response:
    tables = view.tables()
    table = next((known for known in tables if known.name == name), None) if name else (tables[0] if tables else None)
    if table is None:
        known = ", ".join(table.name for table in tables) or "none"
        return web.Response(status=404, text=f"table: got {name[:60]!r}; this page has {known}\n")
    if table.failure:
        return web.Response(status=503, text=table.failure + "\n")
    file = f"{(path.strip('/') or 'overview').replace('/', '-')}-{table.name}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{_safe(file)}"'}
    response = web.Response(text=_csv_text(table), content_type="text/csv", charset="utf-8", headers=headers)
    response.enable_compression()
    return response


def _csv_text(table: Table) -> str:
    written = io.StringIO()
    writer = csv.writer(written)
    names = [column.name for column in table.columns] + ([table.detail] if table.detail else [])
    writer.writerow(names)
    for row in table.rows:
        values = [row.get(name) for name in names]
        writer.writerow(
            [
                "" if value is None else _json_text(value) if isinstance(value, list | dict) else value
                for value in values
            ]
        )
    return written.getvalue()


def _json_text(value: object) -> str:
    return msgspec.json.encode(value).decode()


async def _login_form(access: Access, request: web.Request) -> web.StreamResponse:
    return _login_page(_local(request.query.get("next", "/")), "", 200)


async def _log_in(access: Access, request: web.Request) -> web.StreamResponse:
    form = await request.post()
    target = _local(str(form.get("next", "/")))
    if access.is_locked():
        return _login_page(target, "Too many logins failed. Try again in a minute.", 429)
    response = web.Response(status=303, headers={"Location": target})
    if not access.log_in(str(form.get("token", "")).strip(), request, response):
        log.warning("console_login_failed", remote=request.remote)
        return _login_page(target, "This is not the token of PAI_COLLECTOR_SERVICE_TOKEN.", 403)
    return response


async def _log_out(request: web.Request) -> web.StreamResponse:
    response = web.Response(status=303, headers={"Location": "/login"})
    response.del_cookie(COOKIE, httponly=True, samesite="Strict")
    return response


def _login_page(target: str, error: str, status: int) -> web.Response:
    text = _templates().get_template("login.html").render(title="Log in", target=target, error=error)
    return web.Response(text=text, content_type="text/html", status=status)


def _local(target: str) -> str:
    """An address of this console; a form that names another site leads to the overview."""
    parts = urlsplit(target)
    is_local = (
        target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.netloc and target.isprintable()
    )
    return target if is_local else "/"


def _parts(path: str, page: Page) -> tuple[str, str]:
    for suffix in (".json", ".csv", *page.downloads):
        if path.endswith(suffix):
            return path.removesuffix(suffix), suffix
    return path, ""


def _safe(name: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "_" for letter in name)


async def _static(request: web.Request) -> web.StreamResponse:
    found = _assets().get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound
    kind, plain, packed = found
    is_packed = "gzip" in request.headers.get("Accept-Encoding", "")
    headers = {"Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding", "Content-Type": kind}
    if is_packed:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=packed if is_packed else plain, headers=headers)


@cache
def _assets() -> Mapping[str, tuple[str, bytes, bytes]]:
    """Name -> content type, bytes, and bytes packed with gzip, of every file that pages load."""
    found: dict[str, tuple[str, bytes, bytes]] = {}
    folders = [("", files("collector.console").joinpath("static"))]
    while folders:
        prefix, folder = folders.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((f"{prefix}{entry.name}/", entry))
            elif (kind := mimetypes.guess_type(entry.name)[0]) is not None:
                body = entry.read_bytes()
                text = "text/javascript" if entry.name.endswith(".js") else kind
                charset = "" if text.startswith("image/png") else "; charset=utf-8"
                found[prefix + entry.name] = (text + charset, body, gzip.compress(body, mtime=0))
    return found


@cache
def _assets_hash() -> str:
    whole = hashlib.sha256()
    for name, (_, body, _) in sorted(_assets().items()):
        whole.update(name.encode() + b"\0" + body)
    return whole.hexdigest()[:16]


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("collector.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.globals |= {
        "asset": lambda name: f"/static/{_assets_hash()}/{name}",
        "version": __version__,
        "Kind": Kind,
        "cell": drawing.cell,
        "chart_svg": drawing.chart_svg,
        "lane_svg": lane_svg,
        "sentences": drawing.sentences,
        "sparkline": drawing.sparkline,
        "LAST_CHOICES": LAST_CHOICES,
    }
    templates.filters |= {
        "plain": drawing.plain,
        "time": drawing.time,
        "number": drawing.number,
        "as_text": drawing.as_text,
        "state_class": drawing.state_class,
        "iso": iso,
        "utc": lambda time: drawing.time(iso(time)),
        "packed": lambda value: msgspec.json.encode(value).decode(),
    }
    return templates
