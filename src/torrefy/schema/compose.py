"""The message classes: Caffe's and Torrefy's own, composed from a descriptor set at start-up."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

DESCRIPTORS = "schema.binpb"
"""protos/*.proto, compiled once (`make protos`); a test holds it in step with the texts."""


class Schema:
    """A pool of message types in which plugins' fields can stand beside Caffe's own.

    The pool is private: another package that registers its own `caffe.NetParameter` with
    protobuf's default pool (pycaffe does) is not in the way.
    """

    def __init__(self, descriptors: descriptor_pb2.FileDescriptorSet) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        for file in descriptors.file:
            self._pool.Add(file)
        self._classes: dict[str, type[Message]] = {}

    def message_class(self, name: str) -> type[Message]:
        """The class of a message by its full name, "caffe.NetParameter"."""
        if name not in self._classes:
            descriptor = self._pool.FindMessageTypeByName(name)
            self._classes[name] = message_factory.GetMessageClass(descriptor)
        return self._classes[name]


@functools.cache
def schema() -> Schema:
    """The schema of this process, composed on first use."""
    data = files("torrefy.schema").joinpath(DESCRIPTORS).read_bytes()
    return Schema(descriptor_pb2.FileDescriptorSet.FromString(data))


def new_message(name: str) -> Any:
    """An empty message by its full name, "caffe.LayerParameter"."""
    return schema().message_class(name)()
