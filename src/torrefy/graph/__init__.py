"""NetParameter to Graph: which layers take part, what feeds what, which params are shared."""

from torrefy.graph.resolve import Graph, Node, resolve
from torrefy.graph.state import State, state_of

__all__ = ["Graph", "Node", "State", "resolve", "state_of"]
