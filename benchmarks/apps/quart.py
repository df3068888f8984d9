"""The app in Quart."""

from typing import Any

from quart import Quart, Response, request

from benchmarks.apps import work

app = Quart(__name__)
app.config["MAX_CONTENT_LENGTH"] = None  # 16 MB else
app.config["BODY_TIMEOUT"] = None  # a minute else, for the whole body …
app.config["RESPONSE_TIMEOUT"] = None  # … and for the whole response

TEXT = {"Content-Type": "text/plain; charset=utf-8"}


@app.get("/")
async def home() -> tuple[bytes, dict[str, str]]:
    return work.TOKEN, TEXT


@app.get("/once")
async def once() -> tuple[str, dict[str, str]]:
    return await work.once(), TEXT


@app.get("/json")
async def message() -> dict[str, Any]:
    return work.MESSAGE


@app.get("/users/<user>/items/<int:item>")
async def item(user: str, item: int) -> tuple[str, dict[str, str]]:
    return f"{user} {item}", TEXT


@app.post("/read")
async def read() -> tuple[str, dict[str, str]]:
    return str(len(await request.get_data())), TEXT


@app.post("/receive")
async def receive() -> tuple[str, dict[str, str]]:
    size = 0
    async for piece in request.body:
        size += len(piece)
    return str(size), TEXT


@app.get("/stream/<int:megabytes>")
async def stream(megabytes: int) -> Response:
    return Response(work.stream(megabytes))


@app.route("/wait", methods=["GET", "POST"])
async def wait() -> tuple[str, dict[str, str]]:
    return await work.wait(request.args.get("token", ""), request.args.get("seconds", "")), TEXT


@app.get("/ticks")
async def ticks() -> Response:
    return Response(work.ticks(request.args.get("token", "")))


@app.get("/slot")
async def slot() -> tuple[str, dict[str, str]]:
    return await work.slot(request.args.get("token", "")), TEXT


@app.get("/query")
async def query() -> tuple[str, dict[str, str]]:
    return await work.query(request.args.get("token", "")), TEXT


@app.get("/notes")
async def notes() -> dict[str, Any]:
    return work.notes()
