"""The tiny chat model of the language models' tests."""

from ..llm.conftest import model as model
from ..llm.conftest import one_layer as one_layer
from ..llm.conftest import tiny_folder as tiny_folder
