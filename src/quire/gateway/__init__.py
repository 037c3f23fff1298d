"""The OpenAI-compatible HTTP server; docs/http.md is its reference.

app, serving                the application; a process that serves it and shuts down gently
endpoints, openapi, response_schemas   every path, and a description of all of them for programs
gateway                     what all requests share
accounting, authentication  what every request passes; addresses, issuer_keys: what the latter needs
body, unsupported, schemas  from bytes to a checked request
chat, completions           the two ways to ask, and how their answers look
generation                  the answers of one request, running
responding, streaming       whole and streamed responses
logprobs, error_bodies      parts of them
models, modules, routes, health, metrics   what else may be read
admin_keys, admin_modules   what may be changed
"""

from quire.gateway.app import create_app
from quire.gateway.serving import serve

__all__ = ["create_app", "serve"]
