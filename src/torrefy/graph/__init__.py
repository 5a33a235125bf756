"""NetParameter to Graph: which layers take part, what feeds what, which params are shared."""

from torrefy.graph.resolve import Graph, Node, examine, resolve
from torrefy.graph.state import State, state_of

__all__ = ["Graph", "Node", "State", "examine", "resolve", "state_of"]
