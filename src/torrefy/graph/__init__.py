"""NetParameter to Graph: which layers take part, what feeds what, which params are shared."""

from torrefy.graph.resolve import Graph, Node, examine, resolve
from torrefy.graph.state import PHASES, State, state_of
from torrefy.graph.text import graph_message, graph_text

__all__ = [
    "PHASES",
    "Graph",
    "Node",
    "State",
    "examine",
    "graph_message",
    "graph_text",
    "resolve",
    "state_of",
]
