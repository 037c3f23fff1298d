"""The OpenAI-compatible HTTP server; docs/http.md is its reference.

app, serving                the application; a process that serves it and shuts down gently
gateway                     what all requests share
accounting, local_only      what every request passes
body, unsupported, schemas  from bytes to a checked request
chat, completions           the two ways to ask, and how their answers look
generation                  the answers of one request, running
responding, streaming       whole and streamed responses
logprobs, error_bodies      parts of them
models, modules, routes, health, metrics   the rest of the surface
"""

from quire.gateway.app import create_app
from quire.gateway.serving import serve

__all__ = ["create_app", "serve"]
