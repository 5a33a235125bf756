"""What a definition names by its type and gives parameters, where one class is its whole truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeVar

from torrefy.errors import TorrefyError
from torrefy.schema.compose import schema
from torrefy.schema.fields import FieldError, given_values, has_fields, snake_case, values


class Typed:
    """Something with a type and fields: `callback { type: "Early" early_param { patience: 3 } }`.

    In Python the fields are keywords: `Early(patience=3)`. A subclass declares them by annotation
    and gets its type by the decorator that `typed` makes.
    """

    type_name: ClassVar[str] = ""
    """The `type` in the text."""
    param: ClassVar[str] = ""
    """The field that holds the parameters; empty: there are none."""

    def __init__(self, **given: Any) -> None:
        """Take the fields' values; what is not given has its default.

        Raises:
            TorrefyError: a field is unknown or missing, or doesn't take its value.
        """
        try:
            for name, value in given_values(type(self), given):
                setattr(self, name, value)
        except FieldError as error:
            raise TorrefyError(f"{self.type_name}: {error}", hint=error.hint) from None
        self.setup()

    @classmethod
    def from_message(cls, message: Any) -> Self:
        """One as a message of the definition gives it.

        Raises:
            FieldError: a field is missing or out of its limits.
            TorrefyError: `setup` refuses them.
        """
        part = schema().part(message, cls.param) if cls.param else None
        made = cls.__new__(cls)
        for name, value in values(cls, part, f"{cls.param}."):
            setattr(made, name, value)
        made.setup()
        return made

    def setup(self) -> None:
        """Check the fields against each other, and make what else is needed.

        Raises:
            TorrefyError: they contradict each other.
        """


Kind = TypeVar("Kind", bound=type[Typed])


def typed(type_name: str) -> Callable[[Kind], Kind]:
    """Give a class its type in the text, and from that the name of its parameters."""

    def name_it(cls: Kind) -> Kind:
        cls.type_name = type_name
        if has_fields(cls):
            cls.param = f"{snake_case(type_name)}_param"
        return cls

    return name_it
