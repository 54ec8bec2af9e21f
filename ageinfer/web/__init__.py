"""A web page that shows a run while it goes on: the annotated picture, the faces, their ages over the last minute.

    with WebSink(about=info) as sink:      # http://127.0.0.1:8080/
        sink.write(annotated)

Needs the extra ``serve`` (starlette and uvicorn), which is imported when a `WebSink` is made, not before.

=============  ==============================================================================
`sink`         the `WebSink`; who may be bound to what, and the address to open
`feed`         what the inference thread leaves behind: newest frame, rate, a minute of ages
`encoder`      the one thread that draws and compresses pictures, and only when one is wanted
`streams`      pictures and state on their way to viewers, each at its own pace
`guard`        who may ask: method, host, token; the headers of every answer
`server`       uvicorn in a thread
`page.*`       what the browser gets
=============  ==============================================================================
"""

from ageinfer.web.sink import WebInfo, WebSink, make_token

__all__ = ["WebInfo", "WebSink", "make_token"]
