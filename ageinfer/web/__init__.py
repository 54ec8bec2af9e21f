"""Shows a run on a web page: the annotated picture, the faces, and their ages over the last minute.

    with WebSink(about=info) as sink:      # http://127.0.0.1:8080/
        sink.write(annotated)

It needs the extra ``serve`` (starlette and uvicorn), which is imported when a `WebSink` is made.

=============  ==============================================================================
`sink`         the `WebSink`
`listening`    checks host, port and token and knows the address to open
`feed`         holds the newest frame, the frame rate and the ages of the last minute
`encoder`      the thread that draws and compresses pictures when a viewer waits for one
`streams`      sends pictures and state to each viewer at the viewer's own speed
`overview`     sends the state of several sources in few words
`metrics`      what Prometheus can ask for
`guard`        checks method, host and token of each request and adds security headers
`server`       says what is answered
`serving`      runs uvicorn in a thread
`page.*`       the files that the browser loads
=============  ==============================================================================
"""

from ageinfer.web.listening import make_token
from ageinfer.web.sink import WebInfo, WebSink

__all__ = ["WebInfo", "WebSink", "make_token"]
