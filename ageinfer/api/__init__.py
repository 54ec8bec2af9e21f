"""Answers pictures over HTTP: faces and ages as JSON.

    with Service(Pipeline.default(threads=1)) as service:      # http://127.0.0.1:8000/
        print(service.url)

It needs the extra ``serve`` (starlette, uvicorn, python-multipart and prometheus-client), which is imported when a
`Service` is made. A request walks through the modules in this order:

=============  ==============================================================================
`service`      the `Service`: listens, starts the server, and stops it without cutting a request
`exchanges`    counts every request and its answer, and ends connections so that no answer is lost
`problems`     the answers to what cannot be answered (RFC 9457), and their lines of the log
`application`  says what is answered at which path
`bodies`       takes the pictures out of a request while it arrives, within the limits
`workers`      find the faces and their ages, in as many threads as there are cores
`limits`       what a request may take
`metrics`      what Prometheus can ask for
`openapi.*`    describes all of it to programs
`page.*`       a page to try it
=============  ==============================================================================
"""

from ageinfer.api.limits import Limits
from ageinfer.api.service import Service

__all__ = ["Limits", "Service"]
