"""The app in Django: async views, and none of the middleware that `startproject` writes into the settings."""

from django.conf import settings  # type: ignore[import-untyped]
from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

from benchmarks.apps import work

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,  # 2.5 MB else
)

TEXT = "text/plain; charset=utf-8"


async def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse(work.TOKEN, content_type=TEXT)


async def once(request: HttpRequest) -> HttpResponse:
    return HttpResponse(await work.once(), content_type=TEXT)


async def message(request: HttpRequest) -> JsonResponse:
    return JsonResponse(work.MESSAGE)


async def item(request: HttpRequest, user: str, item: int) -> HttpResponse:
    return HttpResponse(f"{user} {item}", content_type=TEXT)


async def read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)), content_type=TEXT)


async def receive(request: HttpRequest) -> HttpResponse:
    """Django has received the whole body before it calls a view, and keeps a large one in a file."""
    size = 0
    while piece := request.read(len(work.PIECE)):
        size += len(piece)
    return HttpResponse(str(size), content_type=TEXT)


async def stream(request: HttpRequest, megabytes: int) -> StreamingHttpResponse:
    return StreamingHttpResponse(work.stream(megabytes))


async def wait(request: HttpRequest) -> HttpResponse:
    return HttpResponse(await work.wait(request.GET.get("token", ""), request.GET.get("seconds", "")), content_type=TEXT)


async def ticks(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(work.ticks(request.GET.get("token", "")))


async def slot(request: HttpRequest) -> HttpResponse:
    return HttpResponse(await work.slot(request.GET.get("token", "")), content_type=TEXT)


async def query(request: HttpRequest) -> HttpResponse:
    return HttpResponse(await work.query(request.GET.get("token", "")), content_type=TEXT)


async def notes(request: HttpRequest) -> JsonResponse:
    return JsonResponse(work.notes())


urlpatterns = [
    path("", home),
    path("once", once),
    path("json", message),
    path("users/<str:user>/items/<int:item>", item),
    path("read", read),
    path("receive", receive),
    path("stream/<int:megabytes>", stream),
    path("wait", wait),
    path("ticks", ticks),
    path("slot", slot),
    path("query", query),
    path("notes", notes),
]

app = get_asgi_application()
