"""Which module answers a question, and why. Knows nothing of HTTP, and calls no model and no network.

router      the stages in their order, over the partitions that may be read
table       what all of it goes by: a document with a digest     building   making one
live        the one in force        publishing   bringing one into force      differences  between two
golden      questions with the module that must answer
hints       what a request says besides its question             reading    the question, read once
explicit    modules that hints name
rules       keywords, patterns, conditions
classifier  by examples          semantic     by text            learning   what they know, and its bytes
postings    their index          features     what is in it      summary    a module's text in passages
calibration how sure they are                                    explaining plans as JSON values
"""

from quire.router.building import Described, build_table
from quire.router.differences import Difference, differences
from quire.router.explaining import plan_values
from quire.router.hints import NO_HINTS, Hints
from quire.router.live import LiveRoutes
from quire.router.publishing import PublishedRoutes, draft_routes, publish_routes, undeclared_routes, unusable_rules
from quire.router.router import Router
from quire.router.table import RoutedModule, RouteTable, Stages

__all__ = [
    "NO_HINTS",
    "Described",
    "Difference",
    "Hints",
    "LiveRoutes",
    "PublishedRoutes",
    "RouteTable",
    "RoutedModule",
    "Router",
    "Stages",
    "build_table",
    "differences",
    "draft_routes",
    "plan_values",
    "publish_routes",
    "undeclared_routes",
    "unusable_rules",
]
