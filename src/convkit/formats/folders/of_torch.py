"""``folders-torch``: each component in files of ``torch.save``."""

from convkit.formats.folders.format import Folders
from convkit.formats.torch import format as torch_format

FORMAT = Folders("folders-torch", torch_format.FORMAT)
