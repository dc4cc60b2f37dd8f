"""``folders``: each component in safetensors."""

from convkit.formats import safetensors
from convkit.formats.folders.format import Folders

FORMAT = Folders("folders", safetensors.FORMAT)
