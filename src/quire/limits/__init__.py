"""How much a tenant may use. docs/limits.md has the rules; nothing here knows of HTTP.

limiter    Limiter: a request arrives, reserves tokens, ends
rates      requests and tokens per minute, and requests at once: of this process, or `shared` by all through Redis
buckets    what fills up again evenly
monthly    tokens of a month, kept in the registry across restarts
standing   what is left, for whoever wants to know
"""

from quire.limits.limiter import Admission, Limiter
from quire.limits.monthly import MonthlyUse, UseStore
from quire.limits.rates import LocalRates, Rates
from quire.limits.shared import SharedRates
from quire.limits.standing import Left, Standing

__all__ = ["Admission", "Left", "Limiter", "LocalRates", "MonthlyUse", "Rates", "SharedRates", "Standing", "UseStore"]
